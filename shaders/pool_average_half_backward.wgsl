// pool_average_half_backward: d_input[y,x,c] = d_output[y/2, x/2, c] / (number of positions in that window); halves
// Shapes: d_output [ceil(H/2),ceil(W/2),P], d_input [H,W,P]: words of two halves, P = C/2, C a multiple of 4.
// Grid: one thread per 4 channels of an input pixel, 256 a workgroup, x folding into z. Writes d_input (=, not +=).

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> d_input: array<vec2<u32>>;

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// To the nearest half, ties to even: pack2x16float may cut off, and need not make infinity of what is too large.
fn pack(value: vec4<f32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let size = bits & vec4<u32>(0x7fffffffu);
    // From 65520 on infinity; what is not a number stays so. Below 2^-14 steps are 2^-24, which are those of 0.5 and more.
    let usual = ((size + 0xfffu + ((size >> vec4<u32>(13u)) & vec4<u32>(1u))) >> vec4<u32>(13u)) - 0x1c000u;
    let large = select(min(usual, vec4<u32>(0x7c00u)), vec4<u32>(0x7e00u), size > vec4<u32>(0x7f800000u));
    let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(size) + 0.5) - 0x3f000000u;
    let half = select(large, small, size < vec4<u32>(0x38800000u)) | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
    return vec2<u32>(half.x | (half.y << 16u), half.z | (half.w << 16u));
}

@compute @workgroup_size(256)
fn pool_average_half_backward(
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
    let right = (x | 1u) < params.width;
    let below = (y | 1u) < params.height;
    let share = select(1.0, 0.5, right) * select(1.0, 0.5, below);
    d_input[at] = pack(share * unpack(d_output[((y / 2u) * out_width + x / 2u) * quads + c4]));
}
