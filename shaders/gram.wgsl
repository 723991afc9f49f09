// gram: partial[s,i,j] = sum over the owned positions p of split s of feature[p,i] * feature[p,j], tiles with i <= j only
// Shapes: feature [H,W,C], C a multiple of 4; partial [S,C,C]. Owned positions: the rectangle of owned_height x owned_width
//         at (top, left), in row-major order; split s takes positions s*split .. (s+1)*split.
// Grid: x = pairs of 64-channel tiles (row <= column, row by row), y = splits. One workgroup of 64 threads = 64x64 entries.
// Writes partial (=, not +=) in the tiles of the upper triangle; gram_reduce mirrors. Workgroup memory 8 KiB.
// Each thread owns 8 rows x 4 columns here and 4 in the other half, so that neighbours read and write 16 bytes side by side.
// A SYRK with the long axis split, so that large pictures fill the machine; each split adds in position order.
// Rejected: atomics instead of splits - f32 atomics do not exist in WGSL, and their order would change the bits.

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

const DEPTH: u32 = 16u;
const THREADS: u32 = 64u;

// [position][channel/4] of the row tile and of the column tile.
var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

fn load(position: u32, end: u32, c4: u32) -> vec4<f32> {
    if position >= end || c4 * 4u >= params.channels {
        return vec4<f32>();
    }
    let y = params.top + position / params.owned_width;
    let x = params.left + position % params.owned_width;
    return feature[(y * params.width + x) * (params.channels / 4u) + c4];
}

fn store(at: u32, row: u32, c4: u32, low: vec4<f32>, high: vec4<f32>) {
    if row >= params.channels {
        return;
    }
    if c4 * 4u < params.channels {
        partial[at + row * (params.channels / 4u) + c4] = low;
    }
    if (c4 + 8u) * 4u < params.channels {
        partial[at + row * (params.channels / 4u) + c4 + 8u] = high;
    }
}

@compute @workgroup_size(64)
fn gram(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let tiles = (params.channels + 63u) / 64u;
    var row = 0u;
    var column = group.x;
    while column >= tiles - row {
        column -= tiles - row;
        row++;
    }
    column += row;

    let row_thread = local / 8u;
    let column_thread = local % 8u;
    let begin = group.y * params.split;
    let end = min(begin + params.split, params.owned_height * params.owned_width);
    var s0 = vec4<f32>(); var t0 = vec4<f32>();
    var s1 = vec4<f32>(); var t1 = vec4<f32>();
    var s2 = vec4<f32>(); var t2 = vec4<f32>();
    var s3 = vec4<f32>(); var t3 = vec4<f32>();
    var s4 = vec4<f32>(); var t4 = vec4<f32>();
    var s5 = vec4<f32>(); var t5 = vec4<f32>();
    var s6 = vec4<f32>(); var t6 = vec4<f32>();
    var s7 = vec4<f32>(); var t7 = vec4<f32>();

    // begin and end depend on the workgroup alone: the loop is uniform and every thread reaches the barriers.
    for (var p = begin; p < end; p += DEPTH) {
        for (var task = local; task < DEPTH * 16u; task += THREADS) {
            let position = p + task / 16u;
            let quad = task % 16u;
            tile_a[task] = load(position, end, row * 16u + quad);
            tile_b[task] = load(position, end, column * 16u + quad);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let a0 = tile_a[k * 16u + row_thread * 2u];
            let a1 = tile_a[k * 16u + row_thread * 2u + 1u];
            let b0 = tile_b[k * 16u + column_thread];
            let b1 = tile_b[k * 16u + 8u + column_thread];
            s0 += a0.x * b0; t0 += a0.x * b1;
            s1 += a0.y * b0; t1 += a0.y * b1;
            s2 += a0.z * b0; t2 += a0.z * b1;
            s3 += a0.w * b0; t3 += a0.w * b1;
            s4 += a1.x * b0; t4 += a1.x * b1;
            s5 += a1.y * b0; t5 += a1.y * b1;
            s6 += a1.z * b0; t6 += a1.z * b1;
            s7 += a1.w * b0; t7 += a1.w * b1;
        }
        workgroupBarrier();
    }

    let at = group.y * params.channels * (params.channels / 4u);
    let i = row * 64u + row_thread * 8u;
    let j4 = column * 16u + column_thread;
    store(at, i, j4, s0, t0);
    store(at, i + 1u, j4, s1, t1);
    store(at, i + 2u, j4, s2, t2);
    store(at, i + 3u, j4, s3, t3);
    store(at, i + 4u, j4, s4, t4);
    store(at, i + 5u, j4, s5, t5);
    store(at, i + 6u, j4, s6, t6);
    store(at, i + 7u, j4, s7, t7);
}
