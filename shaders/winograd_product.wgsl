// winograd_product: product[p,n,co] = sum over ci of tiles[p,n,ci] * weight[p,ci,co]
// Shapes: tiles [36,N,Ci], weight [36,Ci,Co], product [36,N,Co]; Ci and Co multiples of 4.
// Grid: x = groups of 8 * ROW_THREADS tiles, y = groups of 8 * COLUMN_THREADS channels, z = the 36 positions: as many
//       matrix products in one launch, so that they fill a GPU which any one of them would not.
// Writes product (=, not +=). Workgroup memory: 32 * DEPTH * (ROW_THREADS + COLUMN_THREADS) + 128 bytes, by default 8.1 KiB.
// Each thread owns 8 tiles x 8 channels in registers: of the channels, 4 here and 4 in the other half of the block, so that
// neighbours read and write 16 bytes side by side.
// Rejected: the transposed layout [36,Ci,N] - spares the transposition here, which is moves between registers, and scatters
// the writes of winograd_input instead.

struct Params {
    count: u32,
    inputs: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> product: array<vec4<f32>>;

override ROW_THREADS: u32 = 8u;
override COLUMN_THREADS: u32 = 8u;
override DEPTH: u32 = 16u; // channels per depth step, 4, 8, 16 or 32
// Quads between groups of 4 rows: the 8 threads that store together then meet 8 different banks of 16 bytes.
override PAD: u32 = 32u / DEPTH;

// tile_a[k][tile/4]: DEPTH rows of 2 * ROW_THREADS quads, a gap after every fourth. tile_b[k][channel/4].
var<workgroup> tile_a: array<vec4<f32>, DEPTH * 2u * ROW_THREADS + 8u>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * 2u * COLUMN_THREADS>;

fn load(position: u32, n: u32, c4: u32) -> vec4<f32> {
    if n >= params.count || c4 * 4u >= params.inputs {
        return vec4<f32>();
    }
    return tiles[(position * params.count + n) * (params.inputs / 4u) + c4];
}

fn store(position: u32, n: u32, c4: u32, low: vec4<f32>, high: vec4<f32>) {
    if n >= params.count {
        return;
    }
    let at = (position * params.count + n) * (params.outputs / 4u);
    if c4 * 4u < params.outputs {
        product[at + c4] = low;
    }
    if (c4 + COLUMN_THREADS) * 4u < params.outputs {
        product[at + c4 + COLUMN_THREADS] = high;
    }
}

@compute @workgroup_size(ROW_THREADS * COLUMN_THREADS)
fn winograd_product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let threads = ROW_THREADS * COLUMN_THREADS;
    let position = group.z;
    let first_n = group.x * 8u * ROW_THREADS;
    let first_c4 = group.y * 2u * COLUMN_THREADS;
    let row_thread = local / COLUMN_THREADS;
    let column_thread = local % COLUMN_THREADS;
    var s0 = vec4<f32>(); var t0 = vec4<f32>();
    var s1 = vec4<f32>(); var t1 = vec4<f32>();
    var s2 = vec4<f32>(); var t2 = vec4<f32>();
    var s3 = vec4<f32>(); var t3 = vec4<f32>();
    var s4 = vec4<f32>(); var t4 = vec4<f32>();
    var s5 = vec4<f32>(); var t5 = vec4<f32>();
    var s6 = vec4<f32>(); var t6 = vec4<f32>();
    var s7 = vec4<f32>(); var t7 = vec4<f32>();

    // The bound comes from params: control flow is uniform and the barriers are reached by all threads.
    for (var c = 0u; c < params.inputs; c += DEPTH) {
        // A task is 4 neighbouring tiles x 4 channels, transposed on the way so that tiles become the fast axis.
        for (var task = local; task < 2u * ROW_THREADS * (DEPTH / 4u); task += threads) {
            let quad = task / (DEPTH / 4u);
            let k4 = task % (DEPTH / 4u);
            let n = first_n + quad * 4u;
            let r0 = load(position, n, c / 4u + k4);
            let r1 = load(position, n + 1u, c / 4u + k4);
            let r2 = load(position, n + 2u, c / 4u + k4);
            let r3 = load(position, n + 3u, c / 4u + k4);
            let at = k4 * (8u * ROW_THREADS + PAD) + quad;
            tile_a[at] = vec4<f32>(r0.x, r1.x, r2.x, r3.x);
            tile_a[at + 2u * ROW_THREADS] = vec4<f32>(r0.y, r1.y, r2.y, r3.y);
            tile_a[at + 4u * ROW_THREADS] = vec4<f32>(r0.z, r1.z, r2.z, r3.z);
            tile_a[at + 6u * ROW_THREADS] = vec4<f32>(r0.w, r1.w, r2.w, r3.w);
        }
        for (var task = local; task < DEPTH * 2u * COLUMN_THREADS; task += threads) {
            let channel = c + task / (2u * COLUMN_THREADS);
            let c4 = first_c4 + task % (2u * COLUMN_THREADS);
            var value = vec4<f32>();
            if channel < params.inputs && c4 * 4u < params.outputs {
                value = weight[(position * params.inputs + channel) * (params.outputs / 4u) + c4];
            }
            tile_b[task] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let a = (k * ROW_THREADS + row_thread) * 2u + (k / 4u) * PAD;
            let a0 = tile_a[a];
            let a1 = tile_a[a + 1u];
            let b0 = tile_b[k * 2u * COLUMN_THREADS + column_thread];
            let b1 = tile_b[(k * 2u + 1u) * COLUMN_THREADS + column_thread];
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

    let n = first_n + row_thread * 8u;
    let c4 = first_c4 + column_thread;
    store(position, n, c4, s0, t0);
    store(position, n + 1u, c4, s1, t1);
    store(position, n + 2u, c4, s2, t2);
    store(position, n + 3u, c4, s3, t3);
    store(position, n + 4u, c4, s4, t4);
    store(position, n + 5u, c4, s5, t5);
    store(position, n + 6u, c4, s6, t6);
    store(position, n + 7u, c4, s7, t7);
}
