// mean_backward: d_feature[p,c] += d_mean[c] at the owned positions p
// Shapes: d_mean [C], with every factor of the loss in it; d_feature [H,W,C], C a multiple of 4.
//         Owned positions: as in gram.
// Grid: one thread per 4 channels of an owned position, 256 a workgroup, x folding into z. Adds into d_feature (+=).

struct Params {
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    owned_height: u32,
    owned_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_mean: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> d_feature: array<vec4<f32>>;

@compute @workgroup_size(256)
fn mean_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    let quads = params.channels / 4u;
    if i >= params.owned_height * params.owned_width * quads {
        return;
    }
    let c4 = i % quads;
    let y = params.top + i / quads / params.owned_width;
    let x = params.left + i / quads % params.owned_width;
    d_feature[(y * params.width + x) * quads + c4] += d_mean[c4];
}
