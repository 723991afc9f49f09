// gram_backward: d_feature[p,c] += sum over k of feature[p,k] * d_gram[k,c] at the owned positions p
// Shapes: feature, d_feature [H,W,C], C a multiple of 4; d_gram [C,C], symmetric, with every factor of the loss in it
//         (for G = F'F/numel: 2/numel * dL/dG). Owned positions: as in gram.
// Grid: x (folding into z past 65,535) = groups of 64 owned positions, y = groups of 64 channels; 64 threads.
// Adds into d_feature (+=). Workgroup memory 8.1 KiB. Each thread owns 8 positions x 8 channels in registers: of the channels,
// 4 here and 4 in the other half, so that neighbours read and write 16 bytes side by side.

struct Params {
    width: u32,
    channels: u32,
    top: u32,
    left: u32,
    owned_height: u32,
    owned_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> feature: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> d_gram: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> d_feature: array<vec4<f32>>;

const DEPTH: u32 = 16u;
const THREADS: u32 = 64u;
// Quads between groups of 4 rows: the 8 threads that store together then meet 8 different banks of 16 bytes.
const PAD: u32 = 2u;

// tile_a[k][position/4], a gap after every fourth row. tile_b[k][channel/4].
var<workgroup> tile_a: array<vec4<f32>, 264>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

fn pixel(position: u32) -> u32 {
    let y = params.top + position / params.owned_width;
    let x = params.left + position % params.owned_width;
    return y * params.width + x;
}

fn load(position: u32, c4: u32) -> vec4<f32> {
    if position >= params.owned_height * params.owned_width || c4 * 4u >= params.channels {
        return vec4<f32>();
    }
    return feature[pixel(position) * (params.channels / 4u) + c4];
}

fn add(position: u32, c4: u32, low: vec4<f32>, high: vec4<f32>) {
    if position >= params.owned_height * params.owned_width {
        return;
    }
    let at = pixel(position) * (params.channels / 4u) + c4;
    if c4 * 4u < params.channels {
        d_feature[at] += low;
    }
    if (c4 + 8u) * 4u < params.channels {
        d_feature[at + 8u] += high;
    }
}

@compute @workgroup_size(64)
fn gram_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let position_thread = local / 8u;
    let channel_thread = local % 8u;
    let first_position = (group.x + group.z * groups.x) * 64u;
    let first_c4 = group.y * 16u;
    var s0 = vec4<f32>(); var t0 = vec4<f32>();
    var s1 = vec4<f32>(); var t1 = vec4<f32>();
    var s2 = vec4<f32>(); var t2 = vec4<f32>();
    var s3 = vec4<f32>(); var t3 = vec4<f32>();
    var s4 = vec4<f32>(); var t4 = vec4<f32>();
    var s5 = vec4<f32>(); var t5 = vec4<f32>();
    var s6 = vec4<f32>(); var t6 = vec4<f32>();
    var s7 = vec4<f32>(); var t7 = vec4<f32>();

    // The bound comes from params: uniform control flow around the barriers.
    for (var c = 0u; c < params.channels; c += DEPTH) {
        // A task is 4 positions x 4 channels, transposed; there are exactly 64 of them.
        let quad = local / 4u;
        let k4 = local % 4u;
        let p0 = load(first_position + quad * 4u, c / 4u + k4);
        let p1 = load(first_position + quad * 4u + 1u, c / 4u + k4);
        let p2 = load(first_position + quad * 4u + 2u, c / 4u + k4);
        let p3 = load(first_position + quad * 4u + 3u, c / 4u + k4);
        let at = k4 * (64u + PAD) + quad;
        tile_a[at] = vec4<f32>(p0.x, p1.x, p2.x, p3.x);
        tile_a[at + 16u] = vec4<f32>(p0.y, p1.y, p2.y, p3.y);
        tile_a[at + 32u] = vec4<f32>(p0.z, p1.z, p2.z, p3.z);
        tile_a[at + 48u] = vec4<f32>(p0.w, p1.w, p2.w, p3.w);
        for (var task = local; task < DEPTH * 16u; task += THREADS) {
            let channel = c + task / 16u;
            let c4 = first_c4 + task % 16u;
            var value = vec4<f32>();
            if channel < params.channels && c4 * 4u < params.channels {
                value = d_gram[channel * (params.channels / 4u) + c4];
            }
            tile_b[task] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let a = k * 16u + position_thread * 2u + (k / 4u) * PAD;
            let a0 = tile_a[a];
            let a1 = tile_a[a + 1u];
            let b0 = tile_b[k * 16u + channel_thread];
            let b1 = tile_b[k * 16u + 8u + channel_thread];
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

    let p = first_position + position_thread * 8u;
    let c4 = first_c4 + channel_thread;
    add(p, c4, s0, t0);
    add(p + 1u, c4, s1, t1);
    add(p + 2u, c4, s2, t2);
    add(p + 3u, c4, s3, t3);
    add(p + 4u, c4, s4, t4);
    add(p + 5u, c4, s5, t5);
    add(p + 6u, c4, s6, t6);
    add(p + 7u, c4, s7, t7);
}
