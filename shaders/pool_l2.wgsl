// pool_l2: output[y,x,c] = sqrt(4 * mean of input^2) over the 2x2 window at (2y, 2x), over the positions that lie inside
// Shapes: input [H,W,C], output [ceil(H/2),ceil(W/2),C], C a multiple of 4.
// Grid: one thread per 4 channels of an output pixel, 256 a workgroup, x folding into z. Writes output (=, not +=).
// A whole window's L2 norm; one that sticks out of the map counts as if it were as full as it is inside, as PyTorch's does.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn pool_l2(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let out_width = (params.width + 1u) / 2u;
    let at = (group.x + group.z * groups.x) * 256u + local;
    let c4 = at % quads;
    let x = (at / quads) % out_width * 2u;
    let y = at / quads / out_width * 2u;
    if y >= params.height {
        return;
    }
    let upper = (y * params.width + x) * quads + c4;
    // Places that the map does not have repeat others: twice or four times each, which is the mean's weight.
    let right = select(0u, quads, x + 1u < params.width);
    let lower = upper + select(0u, params.width * quads, y + 1u < params.height);
    let a = input[upper];
    let b = input[upper + right];
    let c = input[lower];
    let d = input[lower + right];
    output[at] = sqrt((a * a + b * b) + (c * c + d * d));
}
