// pool_average: output[y,x,c] = mean of input over the 2x2 window at (2y, 2x), over the positions that lie inside
// Shapes: input [H,W,C], output [ceil(H/2),ceil(W/2),C], C a multiple of 4.
// Grid: one thread per 4 channels of an output pixel, 256 a workgroup, x folding into z. Writes output (=, not +=).

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn pool_average(
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
    let corner = (y * params.width + x) * quads + c4;
    let right = x + 1u < params.width;
    let below = y + 1u < params.height;
    var total = input[corner];
    if right {
        total += input[corner + quads];
    }
    if below {
        total += input[corner + params.width * quads];
    }
    if right && below {
        total += input[corner + (params.width + 1u) * quads];
    }
    output[at] = total * (select(1.0, 0.5, right) * select(1.0, 0.5, below));
}
