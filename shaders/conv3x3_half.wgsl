// conv3x3_half: conv3x3 on maps of half precision: output[y,x,co] = relu(bias[co] + sum input[y+i-1,x+j-1,ci] * weight[3i+j,ci,co])
// Shapes: input [H,W,Ci/2], output [H,W,Co/2]: words of two halves, the lower channel in the lower bits, Ci and Co multiples
//         of 4; weight [9,Ci,Co], bias [Co]; mask [ceil(H/2), ceil(W/4), Co/4] as conv3x3 writes it.
// Grid: as conv3x3. Writes output and mask (=, not +=). Workgroup memory: that of conv3x3.
// Products and sums are f32: only what lies in the maps is rounded. This saves memory and bandwidth, no arithmetic.
// Rejected: the mask of what was rounded - a half is 0 under 3e-8, and the gradient there is that of the f32 value.

struct Params {
    height: u32,
    width: u32,
    inputs: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> mask: array<u32>;

override PIXEL_THREADS: u32 = 8u;
override CHANNEL_THREADS: u32 = 8u;
override DEPTH: u32 = 16u; // channels per depth step, a multiple of 4: 4 KiB per operand at the default tile

// tile_a[k][pixel/4]: DEPTH rows of 2 * PIXEL_THREADS quads along x. tile_b[k][channel/4]: DEPTH rows of 2 * CHANNEL_THREADS.
var<workgroup> tile_a: array<vec4<f32>, DEPTH * 2u * PIXEL_THREADS>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * 2u * CHANNEL_THREADS>;

fn unpack(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// To the nearest half, ties to even: pack2x16float may cut off, and need not make infinity of what is too large.
fn pack(value: vec4<f32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let size = bits & vec4<u32>(0x7fffffffu);
    // From 65520 on infinity; what is not a number stays so. Below 2^-14 steps are 2^-24, which are those of 0.5 and more.
    let usual = ((size + 0xfffu + ((size >> vec4<u32>(13u)) & vec4<u32>(1u))) >> vec4<u32>(13u)) - 0x1c000u;
    let large = select(min(usual, vec4<u32>(0x7c00u)), vec4<u32>(0x7e00u), size > vec4<u32>(0x7f800000u));
    let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(size) + 0.5) - 0x3f000000u;
    let half = select(large, small, size < vec4<u32>(0x38800000u)) | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
    return vec2<u32>(half.x | (half.y << 16u), half.z | (half.w << 16u));
}

fn load(y: u32, x: u32, c4: u32) -> vec4<f32> {
    // y and x are offset by one, so that the padding row 0 and column 0 need no signed arithmetic.
    if y == 0u || y > params.height || x == 0u || x > params.width || c4 * 4u >= params.inputs {
        return vec4<f32>();
    }
    return unpack(input[((y - 1u) * params.width + x - 1u) * (params.inputs / 4u) + c4]);
}

// Writes one pixel's four channels through the ReLU and returns their four mask bits.
fn store(y: u32, x: u32, c4: u32, value: vec4<f32>) -> u32 {
    if y >= params.height || x >= params.width {
        return 0u;
    }
    let biased = value + bias[c4];
    output[(y * params.width + x) * (params.outputs / 4u) + c4] = pack(max(biased, vec4<f32>()));
    let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), biased > vec4<f32>());
    return bits.x | bits.y | bits.z | bits.w;
}

@compute @workgroup_size(PIXEL_THREADS * CHANNEL_THREADS)
fn conv3x3_half(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let threads = PIXEL_THREADS * CHANNEL_THREADS;
    let blocks_x = (params.width + 3u) / 4u;
    let first_block = (group.x + group.z * groups.x) * PIXEL_THREADS;
    let first_c4 = group.y * 2u * CHANNEL_THREADS;
    let pixel_thread = local / CHANNEL_THREADS;
    let channel_thread = local % CHANNEL_THREADS;
    var s0 = vec4<f32>(); var t0 = vec4<f32>();
    var s1 = vec4<f32>(); var t1 = vec4<f32>();
    var s2 = vec4<f32>(); var t2 = vec4<f32>();
    var s3 = vec4<f32>(); var t3 = vec4<f32>();
    var s4 = vec4<f32>(); var t4 = vec4<f32>();
    var s5 = vec4<f32>(); var t5 = vec4<f32>();
    var s6 = vec4<f32>(); var t6 = vec4<f32>();
    var s7 = vec4<f32>(); var t7 = vec4<f32>();

    // Every loop bound below comes from params, so control flow is uniform and the barriers are reached by all threads.
    for (var tap = 0u; tap < 9u; tap++) {
        for (var c = 0u; c < params.inputs; c += DEPTH) {
            // A task is 4 neighbouring pixels x 4 channels, transposed on the way so that pixels become the fast axis.
            for (var task = local; task < 2u * PIXEL_THREADS * (DEPTH / 4u); task += threads) {
                let quad = task / (DEPTH / 4u);
                let k4 = task % (DEPTH / 4u);
                let block = first_block + quad / 2u;
                let y = (block / blocks_x) * 2u + quad % 2u + tap / 3u;
                let x = (block % blocks_x) * 4u + tap % 3u;
                let c4 = c / 4u + k4;
                let p0 = load(y, x, c4);
                let p1 = load(y, x + 1u, c4);
                let p2 = load(y, x + 2u, c4);
                let p3 = load(y, x + 3u, c4);
                let at = k4 * 4u * 2u * PIXEL_THREADS + quad;
                tile_a[at] = vec4<f32>(p0.x, p1.x, p2.x, p3.x);
                tile_a[at + 2u * PIXEL_THREADS] = vec4<f32>(p0.y, p1.y, p2.y, p3.y);
                tile_a[at + 4u * PIXEL_THREADS] = vec4<f32>(p0.z, p1.z, p2.z, p3.z);
                tile_a[at + 6u * PIXEL_THREADS] = vec4<f32>(p0.w, p1.w, p2.w, p3.w);
            }
            for (var task = local; task < DEPTH * 2u * CHANNEL_THREADS; task += threads) {
                let channel = c + task / (2u * CHANNEL_THREADS);
                let c4 = first_c4 + task % (2u * CHANNEL_THREADS);
                var value = vec4<f32>();
                if channel < params.inputs && c4 * 4u < params.outputs {
                    value = weight[(tap * params.inputs + channel) * (params.outputs / 4u) + c4];
                }
                tile_b[task] = value;
            }
            workgroupBarrier();
            for (var k = 0u; k < DEPTH; k++) {
                let a0 = tile_a[(k * PIXEL_THREADS + pixel_thread) * 2u];
                let a1 = tile_a[(k * PIXEL_THREADS + pixel_thread) * 2u + 1u];
                let b0 = tile_b[(k * CHANNEL_THREADS + channel_thread) * 2u];
                let b1 = tile_b[(k * CHANNEL_THREADS + channel_thread) * 2u + 1u];
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
    }

    let block = first_block + pixel_thread;
    let y = (block / blocks_x) * 2u;
    let x = (block % blocks_x) * 4u;
    let c4 = first_c4 + channel_thread * 2u;
    if y >= params.height {
        return;
    }
    if c4 * 4u < params.outputs {
        var bits = 0u;
        bits |= store(y, x, c4, s0);
        bits |= store(y, x + 1u, c4, s1) << 4u;
        bits |= store(y, x + 2u, c4, s2) << 8u;
        bits |= store(y, x + 3u, c4, s3) << 12u;
        bits |= store(y + 1u, x, c4, s4) << 16u;
        bits |= store(y + 1u, x + 1u, c4, s5) << 20u;
        bits |= store(y + 1u, x + 2u, c4, s6) << 24u;
        bits |= store(y + 1u, x + 3u, c4, s7) << 28u;
        mask[block * (params.outputs / 4u) + c4] = bits;
    }
    if (c4 + 1u) * 4u < params.outputs {
        var bits = 0u;
        bits |= store(y, x, c4 + 1u, t0);
        bits |= store(y, x + 1u, c4 + 1u, t1) << 4u;
        bits |= store(y, x + 2u, c4 + 1u, t2) << 8u;
        bits |= store(y, x + 3u, c4 + 1u, t3) << 12u;
        bits |= store(y + 1u, x, c4 + 1u, t4) << 16u;
        bits |= store(y + 1u, x + 1u, c4 + 1u, t5) << 20u;
        bits |= store(y + 1u, x + 2u, c4 + 1u, t6) << 24u;
        bits |= store(y + 1u, x + 3u, c4 + 1u, t7) << 28u;
        mask[block * (params.outputs / 4u) + c4 + 1u] = bits;
    }
}
