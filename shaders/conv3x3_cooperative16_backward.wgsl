// conv3x3_cooperative16_backward: conv3x3_half_backward by the device's 16x16x16 matrix units, as conv3x3_cooperative16
// Shapes: d_output [H,W,Co/2], weight_rotated [9,Co,Ci/2], d_input [H,W,Ci/2]: words of two halves, Co a multiple of 32, Ci of
//         64; mask [ceil(H/2), ceil(W/4), Co/4] as the forward pass wrote it.
// Grid: as conv3x3_cooperative16, with the input channels as columns. Writes d_input (=, not +=). Workgroup memory 27 KiB.
// Never run so far: no device with such units was at hand; checked at first use.

enable f16;
enable wgpu_cooperative_matrix;

struct Params {
    height: u32,
    width: u32,
    inputs: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read> weight_rotated: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> d_input: array<vec2<u32>>;

override SUBGROUP: u32 = 32u;
override COLUMNS: u32 = 2u; // subgroups along the channels, 64 of them each

const STRIDE_A: u32 = 40u; // a step of 32 channels and 8 of padding

// tile_a[pixel][channel], tile_b[channel read][channel written], sums[subgroup][pixel][channel written].
var<workgroup> tile_a: array<f16, 128u * STRIDE_A>;
var<workgroup> tile_b: array<f16, 32u * (64u * COLUMNS + 8u)>;
var<workgroup> sums: array<f32, 4u * COLUMNS * 256u>;

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

fn load(y: u32, x: u32, c4: u32) -> vec2<u32> {
    // y and x are offset by one, so that the padding row 0 and column 0 need no signed arithmetic.
    if y == 0u || y > params.height || x == 0u || x > params.width || c4 * 4u >= params.outputs {
        return vec2<u32>();
    }
    let row = y - 1u;
    let column = x - 1u;
    let quads = params.outputs / 4u;
    let word = mask[((row / 2u) * ((params.width + 3u) / 4u) + column / 4u) * quads + c4];
    let bits = vec4<u32>(word >> (((row % 2u) * 4u + column % 4u) * 4u)) & vec4<u32>(1u, 2u, 4u, 8u);
    let kept = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), bits != vec4<u32>());
    return d_output[(row * params.width + column) * quads + c4] & vec2<u32>(kept.x | kept.y, kept.z | kept.w);
}

fn store(y: u32, x: u32, c4: u32, value: vec4<f32>) {
    if y < params.height && x < params.width {
        d_input[(y * params.width + x) * (params.inputs / 4u) + c4] = pack(value);
    }
}

// One accumulator of every subgroup, which lies in sums, to memory: a thread takes a block of 2x4 pixels x 4 channels.
fn finish(local: u32, first_block: u32, first_c4: u32, i: u32, j: u32) {
    // Called by all threads with the same i and j: uniform control flow.
    workgroupBarrier();
    let blocks_x = (params.width + 3u) / 4u;
    let subgroup = local / 8u;
    let row = ((local / 4u) % 2u) * 8u;
    let quad = local % 4u;
    let block = first_block + (subgroup % 4u) * 4u + i * 2u + row / 8u;
    let y = (block / blocks_x) * 2u;
    let x = (block % blocks_x) * 4u;
    let c4 = first_c4 + (subgroup / 4u) * 16u + j * 4u + quad;
    if subgroup < 4u * COLUMNS && y < params.height && c4 * 4u < params.inputs {
        for (var p = 0u; p < 8u; p++) {
            let at = (subgroup * 16u + row + p) * 16u + quad * 4u;
            let value = vec4<f32>(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]);
            store(y + p / 4u, x + p % 4u, c4, value);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(4u * SUBGROUP * COLUMNS)
fn conv3x3_cooperative16_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let threads = 4u * SUBGROUP * COLUMNS;
    let stride_b = 64u * COLUMNS + 8u;
    let blocks_x = (params.width + 3u) / 4u;
    let first_block = (group.x + group.z * groups.x) * 16u;
    let first_c4 = group.y * 16u * COLUMNS;
    let subgroup = local / SUBGROUP;
    let own_a = (subgroup % 4u) * 32u * STRIDE_A;
    let own_b = (subgroup / 4u) * 64u;
    var s00 = coop_mat16x16<f32, C>(); var s01 = coop_mat16x16<f32, C>();
    var s02 = coop_mat16x16<f32, C>(); var s03 = coop_mat16x16<f32, C>();
    var s10 = coop_mat16x16<f32, C>(); var s11 = coop_mat16x16<f32, C>();
    var s12 = coop_mat16x16<f32, C>(); var s13 = coop_mat16x16<f32, C>();

    // Every loop bound below comes from params, so control flow is uniform and the barriers are reached by all threads.
    for (var tap = 0u; tap < 9u; tap++) {
        for (var c = 0u; c < params.outputs; c += 32u) {
            for (var task = local; task < 128u * 8u; task += threads) {
                let pixel = task / 8u;
                let block = first_block + pixel / 8u;
                let y = (block / blocks_x) * 2u + (pixel / 4u) % 2u + tap / 3u;
                let x = (block % blocks_x) * 4u + pixel % 4u + tap % 3u;
                let words = load(y, x, c / 4u + task % 8u);
                let low = vec2<f16>(unpack2x16float(words.x));
                let high = vec2<f16>(unpack2x16float(words.y));
                let at = pixel * STRIDE_A + (task % 8u) * 4u;
                tile_a[at] = low.x;
                tile_a[at + 1u] = low.y;
                tile_a[at + 2u] = high.x;
                tile_a[at + 3u] = high.y;
            }
            for (var task = local; task < 32u * 16u * COLUMNS; task += threads) {
                let channel = task / (16u * COLUMNS);
                let quad = task % (16u * COLUMNS);
                var words = vec2<u32>();
                if c + channel < params.outputs && (first_c4 + quad) * 4u < params.inputs {
                    words = weight_rotated[(tap * params.outputs + c + channel) * (params.inputs / 4u) + first_c4 + quad];
                }
                let low = vec2<f16>(unpack2x16float(words.x));
                let high = vec2<f16>(unpack2x16float(words.y));
                let at = channel * stride_b + quad * 4u;
                tile_b[at] = low.x;
                tile_b[at + 1u] = low.y;
                tile_b[at + 2u] = high.x;
                tile_b[at + 3u] = high.y;
            }
            workgroupBarrier();
            for (var k = 0u; k < 32u; k += 16u) {
                let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tile_a[own_a + k], STRIDE_A);
                let a1 = coopLoadT<coop_mat16x16<f16, A>>(&tile_a[own_a + 16u * STRIDE_A + k], STRIDE_A);
                let b0 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[k * stride_b + own_b], stride_b);
                let b1 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[k * stride_b + own_b + 16u], stride_b);
                let b2 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[k * stride_b + own_b + 32u], stride_b);
                let b3 = coopLoadT<coop_mat16x16<f16, B>>(&tile_b[k * stride_b + own_b + 48u], stride_b);
                s00 = coopMultiplyAdd(a0, b0, s00);
                s01 = coopMultiplyAdd(a0, b1, s01);
                s02 = coopMultiplyAdd(a0, b2, s02);
                s03 = coopMultiplyAdd(a0, b3, s03);
                s10 = coopMultiplyAdd(a1, b0, s10);
                s11 = coopMultiplyAdd(a1, b1, s11);
                s12 = coopMultiplyAdd(a1, b2, s12);
                s13 = coopMultiplyAdd(a1, b3, s13);
            }
            workgroupBarrier();
        }
    }

    let own = subgroup * 256u;
    coopStoreT(s00, &sums[own], 16u);
    finish(local, first_block, first_c4, 0u, 0u);
    coopStoreT(s01, &sums[own], 16u);
    finish(local, first_block, first_c4, 0u, 1u);
    coopStoreT(s02, &sums[own], 16u);
    finish(local, first_block, first_c4, 0u, 2u);
    coopStoreT(s03, &sums[own], 16u);
    finish(local, first_block, first_c4, 0u, 3u);
    coopStoreT(s10, &sums[own], 16u);
    finish(local, first_block, first_c4, 1u, 0u);
    coopStoreT(s11, &sums[own], 16u);
    finish(local, first_block, first_c4, 1u, 1u);
    coopStoreT(s12, &sums[own], 16u);
    finish(local, first_block, first_c4, 1u, 2u);
    coopStoreT(s13, &sums[own], 16u);
    finish(local, first_block, first_c4, 1u, 3u);
}
