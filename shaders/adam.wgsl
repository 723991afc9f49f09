// adam: m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  image -= rate[t] * m / (sqrt(v) + epsilon[t])
// Shapes: image, d_image, m, v [H,W,4]; schedule [T,2] = (rate, epsilon) of each iteration t; step [1] = t.
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Updates image, m and v in place.
// The host folds the bias correction into the schedule in double precision, because pow() on a GPU is good to some 1e-4:
//   TensorFlow 1's form  rate = lr sqrt(1 - beta2^t) / (1 - beta1^t), epsilon = eps
//   the paper's form     the same rate,                               epsilon = eps sqrt(1 - beta2^t)
// Source: Kingma and Ba 2015, algorithm 1 and the last paragraph of section 2.

struct Params {
    pixels: u32,
    iterations: u32,
    beta1: f32,
    beta2: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_image: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> schedule: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> image: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4<f32>>;

@compute @workgroup_size(256)
fn adam(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.pixels {
        return;
    }
    let now = schedule[min(step[0], params.iterations - 1u)];
    let g = d_image[i];
    let first = params.beta1 * m[i] + (1.0 - params.beta1) * g;
    let second = params.beta2 * v[i] + (1.0 - params.beta2) * g * g;
    m[i] = first;
    v[i] = second;
    image[i] -= now.x * first / (sqrt(second) + now.y);
}
