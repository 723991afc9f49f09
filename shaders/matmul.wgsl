// matmul: output[i,j] = alpha * (sum over k of a[i,k] * b[k,j]) + gamma * (i == j)
// Shapes: a, b, output [C,C], C a multiple of 4.
// Grid: x = columns of 32x32 tiles, y = rows of them; 64 threads of 4x4 entries. Writes output (=, not +=).
//       Workgroup memory 4 KiB. Tiles of 32: the chain of products that makes a root is short of work for a GPU, 64 channels
//       have 4 tiles.

struct Params {
    channels: u32,
    alpha: f32,
    gamma: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

const DEPTH: u32 = 16u;
const THREADS: u32 = 64u;

// tile_a[k][row/4], tile_b[k][column/4]
var<workgroup> tile_a: array<vec4<f32>, 128>;
var<workgroup> tile_b: array<vec4<f32>, 128>;

fn load_a(row: u32, k4: u32) -> vec4<f32> {
    if row >= params.channels || k4 * 4u >= params.channels {
        return vec4<f32>();
    }
    return a[row * (params.channels / 4u) + k4];
}

fn store(row: u32, c4: u32, sum: vec4<f32>) {
    if row >= params.channels || c4 * 4u >= params.channels {
        return;
    }
    let columns = c4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let diagonal = select(vec4<f32>(), vec4<f32>(params.gamma), columns == vec4<u32>(row));
    output[row * (params.channels / 4u) + c4] = params.alpha * sum + diagonal;
}

@compute @workgroup_size(64)
fn matmul(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first_row = group.y * 32u;
    let first_c4 = group.x * 8u;
    let row_thread = local / 8u;
    let column_thread = local % 8u;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();

    // The bound comes from params: uniform control flow around the barriers.
    for (var k = 0u; k < params.channels; k += DEPTH) {
        // A task is 4 rows x 4 columns of a, transposed; there are 32 of them.
        if local < 32u {
            let quad = local / 4u;
            let k4 = local % 4u;
            let r0 = load_a(first_row + quad * 4u, k / 4u + k4);
            let r1 = load_a(first_row + quad * 4u + 1u, k / 4u + k4);
            let r2 = load_a(first_row + quad * 4u + 2u, k / 4u + k4);
            let r3 = load_a(first_row + quad * 4u + 3u, k / 4u + k4);
            tile_a[k4 * 32u + quad] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
            tile_a[k4 * 32u + 8u + quad] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
            tile_a[k4 * 32u + 16u + quad] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
            tile_a[k4 * 32u + 24u + quad] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
        }
        for (var task = local; task < DEPTH * 8u; task += THREADS) {
            let row = k + task / 8u;
            let c4 = first_c4 + task % 8u;
            var value = vec4<f32>();
            if row < params.channels && c4 * 4u < params.channels {
                value = b[row * (params.channels / 4u) + c4];
            }
            tile_b[task] = value;
        }
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i++) {
            let rows = tile_a[i * 8u + row_thread];
            let columns = tile_b[i * 8u + column_thread];
            s0 += rows.x * columns;
            s1 += rows.y * columns;
            s2 += rows.z * columns;
            s3 += rows.w * columns;
        }
        workgroupBarrier();
    }

    let row = first_row + row_thread * 4u;
    let c4 = first_c4 + column_thread;
    store(row, c4, s0);
    store(row + 1u, c4, s1);
    store(row + 2u, c4, s2);
    store(row + 3u, c4, s3);
}
