// scaled_loss_sums: squares[g] = sum of (feature - target_feature)^2, absolutes[g] = sum of |feature - target_feature|
//                   over the owned positions of workgroup g
// Shapes: feature [H,W,C]; target_feature [Ht,Wt,C]; squares, absolutes [P]. C a multiple of 4. Owned positions and their
//         place in the target: as in content_loss. A Gram matrix is a map of one row.
// Grid: P workgroups of 256 threads stride over the owned elements. Writes squares and absolutes (=, not +=).

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
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> feature: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> target_feature: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> squares: array<f32>;
@group(0) @binding(4) var<storage, read_write> absolutes: array<f32>;

// (sum of squares, sum of absolutes) of each thread
var<workgroup> sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn scaled_loss_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let count = params.owned_height * params.owned_width * quads;
    var total = vec2<f32>();
    for (var i = group.x * 256u + local; i < count; i += groups.x * 256u) {
        let position = i / quads;
        let c4 = i % quads;
        let y = position / params.owned_width;
        let x = position % params.owned_width;
        let at = ((params.top + y) * params.width + params.left + x) * quads + c4;
        let there = ((params.target_top + y) * params.target_width + params.target_left + x) * quads + c4;
        let difference = feature[at] - target_feature[there];
        total += vec2<f32>(dot(difference, difference), dot(abs(difference), vec4<f32>(1.0)));
    }
    sums[local] = total;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        squares[group.x] = sums[0].x;
        absolutes[group.x] = sums[0].y;
    }
}
