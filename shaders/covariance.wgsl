// covariance: cov[i,j] = second[i,j] - mean[i] * mean[j] + (ridge + max(0, relative * sum mean^2 - trace)) * (i == j)
//   trace = sum second[k,k] - mean[k]^2
// Shapes: second (the second moments), cov [C,C]; mean [C], C a multiple of 4.
// The relative part is for flat pictures, of whose covariance rounding leaves errors only, half of the eigenvalues below zero:
// no root. Others, whose trace is not within rounding of zero, do not get it.
// Grid: one thread per 4 entries of a row, 64 a workgroup. Writes cov (=, not +=).

struct Params {
    channels: u32,
    ridge: f32,
    relative: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> second: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> mean: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> cov: array<vec4<f32>>;

@compute @workgroup_size(64)
fn covariance(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = group.x * 64u + local;
    let quads = params.channels / 4u;
    if at >= params.channels * quads {
        return;
    }
    let row = at / quads;
    let c4 = at % quads;
    let columns = c4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    var diagonal = vec4<f32>();
    if c4 == row / 4u {
        var squares = 0.0;
        var trace = 0.0;
        for (var k = 0u; k < params.channels; k += 1u) {
            let square = mean[k / 4u][k % 4u] * mean[k / 4u][k % 4u];
            squares += square;
            trace += second[k * quads + k / 4u][k % 4u] - square;
        }
        let ridge = params.ridge + max(0.0, params.relative * squares - trace);
        diagonal = select(diagonal, vec4<f32>(ridge), columns == vec4<u32>(row));
    }
    cov[at] = second[at] - mean[row / 4u][row % 4u] * mean[c4] + diagonal;
}
