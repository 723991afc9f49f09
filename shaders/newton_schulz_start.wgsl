// newton_schulz_start: y[i,j] = matrix[i,j] / norms[slot];  t[i,j] = 1.5 * (i == j) - 0.5 * y[i,j]
// Shapes: matrix, y, t [C,C], C a multiple of 4; norms [K].
// Grid: one thread per 4 entries of a row, 64 a workgroup. Writes y and t (=, not +=).
// The start of Newton and Schulz's iteration, whose first factor is t since its Z is the identity.

struct Params {
    channels: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> matrix: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norms: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> t: array<vec4<f32>>;

@compute @workgroup_size(64)
fn newton_schulz_start(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = group.x * 64u + local;
    let quads = params.channels / 4u;
    if at >= params.channels * quads {
        return;
    }
    let columns = at % quads * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let diagonal = select(vec4<f32>(), vec4<f32>(1.5), columns == vec4<u32>(at / quads));
    let value = matrix[at] / norms[params.slot];
    y[at] = value;
    t[at] = diagonal - 0.5 * value;
}
