// add_scaled: output += factors[slot] * input
// Shapes: input, output [H,W,C], C a multiple of 4; factors [K].
// Grid: one thread per quad, 256 a workgroup, x folding into z. Adds into output (+=).
// The factor lies in a buffer, since the host finds it between two runs of one recording.

struct Params {
    quads: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn add_scaled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    if i >= params.quads {
        return;
    }
    output[i] += factors[params.slot] * input[i];
}
