// widen: destination[to_top + y, to_left + x, c] = factors[slot] * source[from_top + y, from_left + x, c]
// Shapes: source [Hs,Ws,C/2], words of two halves; destination [Hd,Wd,C], f32, C a multiple of 4; factors [K].
// Grid: one thread per 4 channels of a pixel, 256 a workgroup, x folding into z. Writes the rectangle of height x width
//       only (=, not +=). What a loss looks at, and what a tile adds to the picture's gradient.
// The factors are powers of two: nothing is rounded. They lie in a buffer, since they depend on the pictures.

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
@group(0) @binding(1) var<storage, read> source: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> destination: array<vec4<f32>>;

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

@compute @workgroup_size(256)
fn widen(
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
    destination[to_at] = factors[params.slot] * unpack(source[from_at]);
}
