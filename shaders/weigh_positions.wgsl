// weigh_positions: output[p,c] (= or +=) input[p,c] * w at the owned positions p; w = share[p], or sqrt(share[p]) if root is 1
// Shapes: input, output [H,W,C], C a multiple of 4; share [Hs,Ws]. Owned positions: as in gram; the first of them lies at
//         (share_top, share_left) of share.
// Grid: one thread per 4 channels of an owned position, 256 a workgroup, x folding into z.
// Writes output at the owned positions only: = by default, += if accumulate is 1.
// The statistics of a part of a picture: with sqrt(share) the products in a Gram matrix count by share, with share a sum does;
// a gradient times share is what the part's own statistics give back.

struct Params {
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    owned_height: u32,
    owned_width: u32,
    share_width: u32,
    share_top: u32,
    share_left: u32,
    root: u32,
    accumulate: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> share: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(256)
fn weigh_positions(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (group.x + group.z * groups.x) * 256u + local;
    let quads = params.channels / 4u;
    let position = i / quads;
    let y = position / params.owned_width;
    let x = position % params.owned_width;
    if y >= params.owned_height {
        return;
    }
    let at = ((params.top + y) * params.width + params.left + x) * quads + i % quads;
    var w = share[(params.share_top + y) * params.share_width + params.share_left + x];
    if params.root == 1u {
        w = sqrt(w);
    }
    if params.accumulate == 1u {
        output[at] += w * input[at];
    } else {
        output[at] = w * input[at];
    }
}
