// add_normalized: output += input / (norms[slot] / weight + 1e-8)
// Shapes: input, output [H,W,C], C a multiple of 4; norms [K], of which slot is the L1 norm of weight * gradient.
// Grid: one thread per quad, 256 a workgroup, x folding into z. Adds into output (+=).
// input is part of weight * gradient, so that output gets weight * gradient / (L1 norm of the gradient + 1e-8).
// Source: jcjohnson/neural-style's -normalize_gradients, whose 1e-8 this is.

struct Params {
    quads: u32,
    slot: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn add_normalized(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.quads {
        return;
    }
    output[i] += input[i] / (norms[params.slot] / params.weight + 1e-8);
}
