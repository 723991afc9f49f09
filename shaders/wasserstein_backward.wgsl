// wasserstein_backward: with d_cov[i,j] = scale * ((i == j) - sqrt(norms[2] / norms[0]) / norms[1] * lyapunov[i,j]):
//                       d_gram[i,j] = gram_scale * d_cov[i,j];
//                       d_mean[i] = mean_scale * (scale * (mean[i] - target_mean[i]) - sum over j of d_cov[i,j] * mean[j])
// Shapes: lyapunov, d_gram [C,C]; mean, target_mean, d_mean [C]; norms [3].
//         lyapunov is Y Q Y, where Q is the solution of Lyapunov's equation for the identity and Y as in wasserstein_loss.
// Grid: one workgroup of 64 threads = a row. Writes d_gram and d_mean (=, not +=).

struct Params {
    channels: u32,
    scale: f32,
    gram_scale: f32,
    mean_scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lyapunov: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> target_mean: array<f32>;
@group(0) @binding(4) var<storage, read> norms: array<f32>;
@group(0) @binding(5) var<storage, read_write> d_gram: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_mean: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn wasserstein_backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = group.x;
    let factor = params.scale * (sqrt(norms[2]) / sqrt(norms[0]) / norms[1]);
    var total = 0.0;
    for (var j = local; j < params.channels; j += 64u) {
        let d_cov = select(0.0, params.scale, i == j) - factor * lyapunov[i * params.channels + j];
        d_gram[i * params.channels + j] = params.gram_scale * d_cov;
        total += d_cov * mean[j];
    }
    sums[local] = total;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        d_mean[i] = params.mean_scale * (params.scale * (mean[i] - target_mean[i]) - sums[0]);
    }
}
