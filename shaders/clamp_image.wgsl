// clamp_image: image = min(max(image, lower), upper), channel by channel
// Shapes: image [H,W,4]; lower and upper are parameters, 0 for the fourth channel, which is padding.
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Updates image in place.

struct Params {
    pixels: u32,
    lower_red: f32,
    lower_green: f32,
    lower_blue: f32,
    upper_red: f32,
    upper_green: f32,
    upper_blue: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> image: array<vec4<f32>>;

@compute @workgroup_size(256)
fn clamp_image(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.pixels {
        return;
    }
    let lower = vec4<f32>(params.lower_red, params.lower_green, params.lower_blue, 0.0);
    let upper = vec4<f32>(params.upper_red, params.upper_green, params.upper_blue, 0.0);
    image[i] = min(max(image[i], lower), upper);
}
