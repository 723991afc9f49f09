// style_loss: d_gram[i,j] = coefficient * (gram[i,j] - target_gram[i,j]);  partial[g] = sum of (gram - target)^2 in workgroup g
// Shapes: gram, target_gram, d_gram [C,C]; partial [ceil(C*C/1024)].
// Grid: one workgroup of 256 threads = 1024 consecutive entries. Writes d_gram and partial (=, not +=).
// coefficient carries every factor down to the feature's gradient, so gram_backward multiplies and adds only.

struct Params {
    channels: u32,
    coefficient: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gram: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_gram: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> d_gram: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn style_loss(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = group.x * 256u + local;
    var squares = 0.0;
    if at < params.channels * (params.channels / 4u) {
        let difference = gram[at] - target_gram[at];
        d_gram[at] = params.coefficient * difference;
        squares = dot(difference, difference);
    }
    sums[local] = squares;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        partial[group.x] = sums[0];
    }
}
