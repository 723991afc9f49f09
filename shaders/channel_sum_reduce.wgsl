// channel_sum_reduce: mean[c] += scale * sum over s of partial[s,c]
// Shapes: partial [S,C], mean [C].
// Grid: one thread per channel, 64 a workgroup. Adds into mean (+=): tiles of a picture sum up.
// Splits are added in order, so the same settings give the same bits.

struct Params {
    channels: u32,
    splits: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

@compute @workgroup_size(64)
fn channel_sum_reduce(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let c = group.x * 64u + local;
    if c >= params.channels {
        return;
    }
    var total = 0.0;
    for (var s = 0u; s < params.splits; s++) {
        total += partial[s * params.channels + c];
    }
    mean[c] += params.scale * total;
}
