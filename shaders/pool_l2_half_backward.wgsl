// pool_l2_half_backward: d_input[y,x,c] = 4/n * input[y,x,c] / output[y/2,x/2,c] * d_output[y/2,x/2,c], 0 where output is 0;
//                        n positions of that window lie inside, output is pool_l2_half's before it is rounded
// Shapes: input, d_input [H,W,P]; output, computed anew, and d_output [ceil(H/2),ceil(W/2),P]: words of two halves, P = C/2,
//         C a multiple of 4.
// Grid: one thread per 4 channels of an output pixel, 256 a workgroup, x folding into z. Writes d_input (=, not +=).

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> d_output: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> d_input: array<vec2<u32>>;

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
fn pool_l2_half_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let out_width = (params.width + 1u) / 2u;
    let i = (group.x + group.z * groups.x) * 256u + local;
    let c4 = i % quads;
    let x = (i / quads) % out_width * 2u;
    let y = i / quads / out_width * 2u;
    if y >= params.height {
        return;
    }
    let has_right = x + 1u < params.width;
    let has_lower = y + 1u < params.height;
    let at = (y * params.width + x) * quads + c4;
    let right = select(0u, quads, has_right);
    let lower = at + select(0u, params.width * quads, has_lower);
    let a = unpack(input[at]);
    let b = unpack(input[at + right]);
    let c = unpack(input[lower]);
    let d = unpack(input[lower + right]);
    let output = sqrt((a * a + b * b) + (c * c + d * d));
    let share = select(2.0, 1.0, has_right) * select(2.0, 1.0, has_lower);
    let slope = select(vec4<f32>(), share * unpack(d_output[i]) / output, output > vec4<f32>());
    d_input[at] = pack(slope * a);
    if has_right {
        d_input[at + right] = pack(slope * b);
    }
    if has_lower {
        d_input[lower] = pack(slope * c);
    }
    if has_right && has_lower {
        d_input[lower + right] = pack(slope * d);
    }
}
