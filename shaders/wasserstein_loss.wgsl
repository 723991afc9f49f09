// wasserstein_loss: losses[slot] += scale * sum over c of (mean[c] - target_mean[c])^2
//                                   + target_cov[c,c] + cov[c,c] - 2 sqrt(norms[0] * norms[2]) * root[c,c]
// Shapes: mean, target_mean [C]; cov, target_cov, root [C,C]; norms [3]; losses [L].
//         root is that of Y cov Y / norms[0], where Y sqrt(norms[2]) is the root of target_cov.
// Grid: one workgroup of 256 threads. Adds into one entry of losses (+=).
// Channel by channel, since the sums of the three traces would cancel in single precision when the styles are near.

struct Params {
    channels: u32,
    slot: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read> target_mean: array<f32>;
@group(0) @binding(3) var<storage, read> cov: array<f32>;
@group(0) @binding(4) var<storage, read> target_cov: array<f32>;
@group(0) @binding(5) var<storage, read> root: array<f32>;
@group(0) @binding(6) var<storage, read> norms: array<f32>;
@group(0) @binding(7) var<storage, read_write> losses: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn wasserstein_loss(@builtin(local_invocation_index) local: u32) {
    // Two roots: the product may leave the range of single precision.
    let norm = sqrt(norms[0]) * sqrt(norms[2]);
    var total = 0.0;
    for (var c = local; c < params.channels; c += 256u) {
        let at = c * (params.channels + 1u);
        let difference = mean[c] - target_mean[c];
        total += difference * difference + (target_cov[at] - norm * root[at]) + (cov[at] - norm * root[at]);
    }
    sums[local] = total;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        losses[params.slot] += params.scale * sums[0];
    }
}
