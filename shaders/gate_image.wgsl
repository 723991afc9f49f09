// gate_image: image[p] = 0 where gate[p] is not above 0
// Shapes: image [H,W,4], gate [H,W].
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Updates image in place.
// Of a gradient it leaves the pixels that may move. All or nothing, not image * gate: what is left is the gradient of the loss
// with respect to these pixels, on which a line search relies.

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> image: array<vec4<f32>>;

@compute @workgroup_size(256)
fn gate_image(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.pixels {
        return;
    }
    if gate[i] <= 0.0 {
        image[i] = vec4<f32>();
    }
}
