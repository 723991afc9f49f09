// pool_max_half_backward: d_input[y,x,c] = d_output[y/2, x/2, c] if (y,x) won its window, else 0; maps of half precision
// Shapes: d_output [ceil(H/2),ceil(W/2),P], d_input [H,W,P]: words of two halves, P = C/2, C a multiple of 4;
//         winner [ceil(H/2), ceil(W/8), C/4] as pool_max_half wrote it.
// Grid: one thread per 4 channels of an input pixel, 256 a workgroup, x folding into z. Writes d_input (=, not +=). Exact.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> winner: array<u32>;
@group(0) @binding(3) var<storage, read_write> d_input: array<vec2<u32>>;

@compute @workgroup_size(256)
fn pool_max_half_backward(
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
    // A half is moved as its bits.
    let won = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), which == here);
    d_input[at] = d_output[((y / 2u) * out_width + out_x) * quads + c4] & vec2<u32>(won.x | won.y, won.z | won.w);
}
