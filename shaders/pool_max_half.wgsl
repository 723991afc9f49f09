// pool_max_half: pool_max on maps of half precision: output[y,x,c] = max of input over the 2x2 window at (2y, 2x)
// Shapes: input [H,W,P], output [ceil(H/2),ceil(W/2),P]: words of two halves, P = C/2, C a multiple of 4;
//         winner [ceil(H/2), ceil(W/8), C/4] as pool_max writes it.
// Grid: one thread per word of winner, 64 a workgroup, x folding into z. Writes output and winner (=, not +=). Exact.
// Rejected: winners picked before the convolution's sums are rounded, and maps stored less the network's response to the mean
//           colour - a small picture (96x96, article, noise, 40 iterations) ends with 18.9 % of its values off by more than 2
//           of 255 with neither, 19.2 % with the one, 18.1 % with the other: any rounding to 11 bits sets such a run on
//           another path, and a larger one does not need it (224x224: 0.1 to 0.2 %).

struct Params {
    height: u32,
    width: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> winner: array<u32>;

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

@compute @workgroup_size(64)
fn pool_max_half(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let out_width = (params.width + 1u) / 2u;
    let words_x = (out_width + 3u) / 4u;
    let at = (group.x + group.z * groups.x) * 64u + local;
    let c4 = at % quads;
    let first_x = (at / quads) % words_x * 4u;
    let out_y = at / quads / words_x;
    if out_y >= (params.height + 1u) / 2u {
        return;
    }
    var word = 0u;
    for (var i = 0u; i < 4u && first_x + i < out_width; i++) {
        let y = out_y * 2u;
        let x = (first_x + i) * 2u;
        let corner = (y * params.width + x) * quads + c4;
        let right = x + 1u < params.width;
        let below = y + 1u < params.height;
        var best = unpack(input[corner]);
        var which = vec4<u32>();
        if right {
            let value = unpack(input[corner + quads]);
            which = select(which, vec4<u32>(1u), value > best);
            best = max(best, value);
        }
        if below {
            let value = unpack(input[corner + params.width * quads]);
            which = select(which, vec4<u32>(2u), value > best);
            best = max(best, value);
        }
        if right && below {
            let value = unpack(input[corner + (params.width + 1u) * quads]);
            which = select(which, vec4<u32>(3u), value > best);
            best = max(best, value);
        }
        output[(out_y * out_width + first_x + i) * quads + c4] = pack(best);
        word |= (which.x | (which.y << 2u) | (which.z << 4u) | (which.w << 6u)) << (i * 8u);
    }
    winner[at] = word;
}
