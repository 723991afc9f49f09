// pool_max_backward: d_input[y,x,c] = d_output[y/2, x/2, c] if (y,x) won its window, else 0
// Shapes: d_output [ceil(H/2),ceil(W/2),C], winner [ceil(H/2), ceil(W/8), C/4] as pool_max wrote it, d_input [H,W,C].
// Grid: one thread per 4 channels of an input pixel, 256 a workgroup, x folding into z. Writes d_input (=, not +=).

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> winner: array<u32>;
@group(0) @binding(3) var<storage, read_write> d_input: array<vec4<f32>>;

@compute @workgroup_size(256)
fn pool_max_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let at = (group.x + group.z * groups.x) * 256u + local;
    let c4 = at % quads;
    let x = (at / quads) % params.width;
    let y = at / quads / params.width;
    if y >= params.height {
        return;
    }
    let out_width = (params.width + 1u) / 2u;
    let out_x = x / 2u;
    let word = winner[((y / 2u) * ((out_width + 3u) / 4u) + out_x / 4u) * quads + c4] >> ((out_x % 4u) * 8u);
    let which = (vec4<u32>(word) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let here = vec4<u32>((y % 2u) * 2u + x % 2u);
    d_input[at] = select(vec4<f32>(), d_output[((y / 2u) * out_width + out_x) * quads + c4], which == here);
}
