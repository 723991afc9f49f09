// channel_sum: partial[s,c] = sum over the owned positions p of split s of feature[p,c]
// Shapes: feature [H,W,C], C a multiple of 4; partial [S,C]. Owned positions and splits: as in gram.
// Grid: x = groups of 64 channels, y = splits; 256 threads are 16 lanes of positions x 16 quads.
// Writes partial (=, not +=). Workgroup memory 4 KiB.

struct Params {
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    owned_height: u32,
    owned_width: u32,
    split: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> feature: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;

var<workgroup> sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn channel_sum(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let quads = params.channels / 4u;
    let c4 = group.x * 16u + local % 16u;
    let begin = group.y * params.split;
    let end = min(begin + params.split, params.owned_height * params.owned_width);
    var total = vec4<f32>();
    if c4 < quads {
        for (var p = begin + local / 16u; p < end; p += 16u) {
            let y = params.top + p / params.owned_width;
            let x = params.left + p % params.owned_width;
            total += feature[(y * params.width + x) * quads + c4];
        }
    }
    sums[local] = total;
    // A tree of fixed shape over the lanes: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride >= 16u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local < 16u && c4 < quads {
        partial[group.y * quads + c4] = sums[local];
    }
}
