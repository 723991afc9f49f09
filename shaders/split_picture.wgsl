// split_picture: output[y,x,c] = half(input[y,x,c]), output[y,x,4+c] = half(input[y,x,c] - half(input[y,x,c]))
// Shapes: input [H,W,4], f32; output [H,W,4], words of two halves: eight channels, which add up to input in 22 bits.
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Writes output (=, not +=).
// A half has steps of 1/8 in a picture's whites: the network would see bands in a sky. With its weights taken twice it sees
// the sum of both, and the first layer is a convolution like the others.

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<u32>>;

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

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

@compute @workgroup_size(256)
fn split_picture(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.z * groups.x) * 256u + local;
    if at >= params.pixels {
        return;
    }
    let high = pack(input[at]);
    output[at] = vec4<u32>(high, pack(input[at] - unpack(high)));
}
