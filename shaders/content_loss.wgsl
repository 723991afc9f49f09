// content_loss: d_feature[p,c] += coefficient * (feature[p,c] - target[q,c]);  partial[g] = sum of (feature - target)^2
//               at the owned positions p; q is the same place in the whole picture's map
// Shapes: feature, d_feature [H,W,C]; target_feature [Ht,Wt,C]; partial [P]. C a multiple of 4.
//         Owned positions: owned_height x owned_width at (top, left) of the tile, at (target_top, target_left) of the target.
// Grid: P workgroups of 256 threads stride over the owned elements. Adds into d_feature (+=), writes partial (=).

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
    coefficient: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> feature: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_feature: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> d_feature: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn content_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let count = params.owned_height * params.owned_width * quads;
    var squares = 0.0;
    for (var i = group.x * 256u + local; i < count; i += groups.x * 256u) {
        let position = i / quads;
        let c4 = i % quads;
        let y = position / params.owned_width;
        let x = position % params.owned_width;
        let at = ((params.top + y) * params.width + params.left + x) * quads + c4;
        let there = ((params.target_top + y) * params.target_width + params.target_left + x) * quads + c4;
        let difference = feature[at] - target_feature[there];
        d_feature[at] += params.coefficient * difference;
        squares += dot(difference, difference);
    }
    sums[local] = squares;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        partial[group.x] = sums[0];
    }
}
