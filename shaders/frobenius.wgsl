// frobenius: norms[slot] = sqrt(sum of matrix^2)
// Shapes: matrix [C,C], C a multiple of 4; norms [K].
// Grid: one workgroup of 256 threads. Writes one entry of norms (=, not +=).

struct Params {
    channels: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> matrix: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> norms: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn frobenius(@builtin(local_invocation_index) local: u32) {
    var total = 0.0;
    for (var i = local; i < params.channels * (params.channels / 4u); i += 256u) {
        total += dot(matrix[i], matrix[i]);
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
        norms[params.slot] = sqrt(sums[0]);
    }
}
