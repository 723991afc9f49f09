// gram_reduce: gram[i,j] += scale * sum over s of partial[s,i,j], the lower triangle mirrored from the upper
// Shapes: partial [S,C,C] as gram wrote it (64-channel tiles with row <= column only), gram [C,C].
// Grid: one thread per entry, 256 threads a workgroup, x folding into z. Adds into gram (+=): tiles of a picture sum up.
// Splits are added in order, every fourth to one of four sums, so the same settings give the same bits.

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
    // Four sums at a time: their loads do not wait for one another's additions.
    var total = vec4<f32>();
    let stride = c * c;
    var s = 0u;
    for (; s + 4u <= params.splits; s += 4u) {
        let base = s * stride + source;
        total += vec4<f32>(
            partial[base],
            partial[base + stride],
            partial[base + 2u * stride],
            partial[base + 3u * stride],
        );
    }
    for (; s < params.splits; s++) {
        total.x += partial[s * stride + source];
    }
    gram[at] += params.scale * ((total.x + total.y) + (total.z + total.w));
}
