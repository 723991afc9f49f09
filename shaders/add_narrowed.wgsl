// add_narrowed: destination[to_top + y, to_left + x, c] += factors[slot] * source[from_top + y, from_left + x, c]
// Shapes: source [Hs,Ws,C], f32; destination [Hd,Wd,C/2], words of two halves, C a multiple of 4; factors [K].
// Grid: one thread per 4 channels of a pixel, 256 a workgroup, x folding into z. Adds into the rectangle of height x width
//       only (+=); the sum is rounded to half once. How a loss's gradient joins that of its layer.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
    source_width: u32,
    from_top: u32,
    from_left: u32,
    destination_width: u32,
    to_top: u32,
    to_left: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> destination: array<vec2<u32>>;

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
fn add_narrowed(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    let quads = params.channels / 4u;
    if i >= params.height * params.width * quads {
        return;
    }
    let c4 = i % quads;
    let x = (i / quads) % params.width;
    let y = i / quads / params.width;
    let from_at = ((params.from_top + y) * params.source_width + params.from_left + x) * quads + c4;
    let to_at = ((params.to_top + y) * params.destination_width + params.to_left + x) * quads + c4;
    destination[to_at] = pack(unpack(destination[to_at]) + factors[params.slot] * source[from_at]);
}
