// roof_fma: values = a values + b, 2 `rounds` times over: the device's ceiling for multiply-adds
// Shapes: values [N,16].
// Grid: one thread per row of 16 values, 64 a workgroup, x folding into z. Updates values in place.
// Sixteen independent chains in registers hide the latency of a multiply-add; nothing else is loaded or stored.

struct Params {
    rows: u32,
    rounds: u32,
    a: f32,
    b: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(64)
fn roof_fma(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = (group.x + group.z * groups.x) * 64u + local;
    if row >= params.rows {
        return;
    }
    let a = vec4<f32>(params.a);
    let b = vec4<f32>(params.b);
    var v0 = values[4u * row];
    var v1 = values[4u * row + 1u];
    var v2 = values[4u * row + 2u];
    var v3 = values[4u * row + 3u];
    for (var round = 0u; round < params.rounds; round += 1u) {
        v0 = fma(v0, a, b);
        v1 = fma(v1, a, b);
        v2 = fma(v2, a, b);
        v3 = fma(v3, a, b);
        v0 = fma(v0, a, b);
        v1 = fma(v1, a, b);
        v2 = fma(v2, a, b);
        v3 = fma(v3, a, b);
    }
    values[4u * row] = v0;
    values[4u * row + 1u] = v1;
    values[4u * row + 2u] = v2;
    values[4u * row + 3u] = v3;
}
