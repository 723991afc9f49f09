// sum_reduce: losses[slot] += scale * (sum of partial)
// Shapes: partial [P], losses [L].
// Grid: one workgroup of 256 threads. Adds into one entry of losses (+=): the tiles of a picture sum up.

struct Params {
    count: u32,
    slot: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn sum_reduce(@builtin(local_invocation_index) local: u32) {
    var total = 0.0;
    for (var i = local; i < params.count; i += 256u) {
        total += partial[i];
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
