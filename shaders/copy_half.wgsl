// copy_half: destination[to_top + y, to_left + x, c] = source[from_top + y, from_left + x, c], maps of half precision
// Shapes: source [Hs,Ws,P], destination [Hd,Wd,P]: words of two halves, P = C/2, C a multiple of 4; the rectangle is height x width.
// Grid: one thread per 4 channels of a pixel, 256 a workgroup, x folding into z. Writes the rectangle only (=, not +=).

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
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> destination: array<vec2<u32>>;

@compute @workgroup_size(256)
fn copy_half(
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
    destination[to_at] = source[from_at];
}
