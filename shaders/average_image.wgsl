// average_image: average += weights[t] * (image - average)
// Shapes: image, average [H,W,4]; weights [T], one of each iteration t; step [1] = t.
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Updates average in place.
// With weights[t] = (1 - decay) / (1 - decay^(t+2)) and the start as the first average, this is the bias-corrected
// exponential moving average of the start and all pictures after it; the host forms the weights in double precision.
// Source: Kingma and Ba 2015, section 7.2.

struct Params {
    pixels: u32,
    iterations: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> image: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> average: array<vec4<f32>>;

@compute @workgroup_size(256)
fn average_image(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.pixels {
        return;
    }
    let weight = weights[min(step[0], params.iterations - 1u)];
    average[i] += weight * (image[i] - average[i]);
}
