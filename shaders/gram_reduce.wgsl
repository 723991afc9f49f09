// gram_reduce: gram[i,j] += scale * sum over s of partial[s,i,j], the lower triangle mirrored from the upper
// Shapes: partial [S,C,C] as gram wrote it (64-channel tiles with row <= column only), gram [C,C].
// Grid: one thread per entry, 256 threads a workgroup, x folding into z. Adds into gram (+=): tiles of a picture sum up.
// Splits are added in order, so the same settings give the same bits.

struct Params {
    channels: u32,
    splits: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> gram: array<f32>;

@compute @workgroup_size(256)
fn gram_reduce(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.z * groups.x) * 256u + local;
    let c = params.channels;
    if at >= c * c {
        return;
    }
    let i = at / c;
    let j = at % c;
    let source = select(i * c + j, j * c + i, i / 64u > j / 64u);
    var total = 0.0;
    for (var s = 0u; s < params.splits; s++) {
        total += partial[s * c * c + source];
    }
    gram[at] += params.scale * total;
}
