// dot_partial: partial[g] = sum of input * other over every P-th run of 256 quads, from run g on
// Shapes: input, other [H,W,C], C a multiple of 4; partial [P].
// Grid: P workgroups of 256 threads stride over the quads. Writes partial (=), which sum_reduce adds up.

struct Params {
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> other: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn dot_partial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var total = 0.0;
    for (var i = group.x * 256u + local; i < params.quads; i += groups.x * 256u) {
        total += dot(input[i], other[i]);
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
        partial[group.x] = sums[0];
    }
}
