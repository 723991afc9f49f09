// scaled_loss_backward: with d = feature - target_feature and s = sums[1] + epsilon, at the owned positions:
//                       d_feature += scale * (2 d / s - sums[0] / s^2 * sign(d))
// Shapes: feature, d_feature [H,W,C]; target_feature [Ht,Wt,C]; sums [2]. C a multiple of 4. Owned positions and their
//         place in the target: as in content_loss.
// Grid: one thread per 4 channels of an owned position, 256 a workgroup, x folding into z. Adds into d_feature (+=).

struct Params {
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    owned_height: u32,
    owned_width: u32,
    target_width: u32,
    target_top: u32,
    target_left: u32,
    scale: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> feature: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_feature: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> d_feature: array<vec4<f32>>;

@compute @workgroup_size(256)
fn scaled_loss_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    let quads = params.channels / 4u;
    let position = i / quads;
    let c4 = i % quads;
    let y = position / params.owned_width;
    let x = position % params.owned_width;
    if y >= params.owned_height {
        return;
    }
    let at = ((params.top + y) * params.width + params.left + x) * quads + c4;
    let there = ((params.target_top + y) * params.target_width + params.target_left + x) * quads + c4;
    let d = feature[at] - target_feature[there];
    let s = sums[1] + params.epsilon;
    d_feature[at] += params.scale / s * (2.0 * d - (sums[0] / s) * sign(d));
}
