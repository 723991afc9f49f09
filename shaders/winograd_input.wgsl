// winograd_input: tiles[6i+j, n, c] = (B' d B)[i,j] of the patch d[i,j] = input[4ty+i-1, 4tx+j-1, c], zero outside
// Shapes: input [H,W,C], C a multiple of 4; tiles [36,N,C]. N tiles of 4x4 outputs, number first and those after it,
//         counted row by row: tile first + n lies at ty, tx.
// Grid: x (folding into z past 65,535) = groups of 64 threads; a thread owns one tile x 2 channels, channels fastest.
// Writes tiles (=, not +=). No workgroup memory.
// Two channels a thread: 36 vec2 are 72 registers, which leaves room for several groups; neighbours read and write 8 bytes
// side by side. Bound by memory: 9 bytes written for each 4 read, 228 operations for 36 values.
// Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3 (points 0, 1, -1, 2, -2).
// Rejected: vec4 threads - 144 registers, spilt on half of the GPUs - where a compiler keeps to fewer.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> tiles: array<vec2<f32>>;

struct Six {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
    e: vec2<f32>,
    f: vec2<f32>,
}

// B' times a column.
fn transformed(v: Six) -> Six {
    let p = v.e - 4.0 * v.c;
    let q = v.d - 4.0 * v.b;
    let r = v.e - v.c;
    let s = 2.0 * (v.d - v.b);
    return Six(4.0 * v.a - 5.0 * v.c + v.e, p + q, p - q, r + s, r - s, 4.0 * v.b - 5.0 * v.d + v.f);
}

// y and x are offset by one, so that the padding row 0 and column 0 need no signed arithmetic.
fn load(y: u32, x: u32, c2: u32) -> vec2<f32> {
    if y == 0u || y > params.height || x == 0u || x > params.width {
        return vec2<f32>();
    }
    return input[((y - 1u) * params.width + x - 1u) * (params.channels / 2u) + c2];
}

fn column(y: u32, x: u32, c2: u32) -> Six {
    return transformed(Six(
        load(y, x, c2),
        load(y + 1u, x, c2),
        load(y + 2u, x, c2),
        load(y + 3u, x, c2),
        load(y + 4u, x, c2),
        load(y + 5u, x, c2),
    ));
}

// The six positions from 6i on of one tile and pair of channels.
fn store(i: u32, at: u32, row: Six) {
    let stride = params.count * (params.channels / 2u);
    let v = transformed(row);
    tiles[(6u * i) * stride + at] = v.a;
    tiles[(6u * i + 1u) * stride + at] = v.b;
    tiles[(6u * i + 2u) * stride + at] = v.c;
    tiles[(6u * i + 3u) * stride + at] = v.d;
    tiles[(6u * i + 4u) * stride + at] = v.e;
    tiles[(6u * i + 5u) * stride + at] = v.f;
}

@compute @workgroup_size(64)
fn winograd_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.z * groups.x) * 64u + local;
    let n = at / (params.channels / 2u);
    if n >= params.count {
        return;
    }
    let c2 = at % (params.channels / 2u);
    let tiles_x = (params.width + 3u) / 4u;
    let y = ((params.first + n) / tiles_x) * 4u;
    let x = ((params.first + n) % tiles_x) * 4u;
    let k0 = column(y, x, c2);
    let k1 = column(y, x + 1u, c2);
    let k2 = column(y, x + 2u, c2);
    let k3 = column(y, x + 3u, c2);
    let k4 = column(y, x + 4u, c2);
    let k5 = column(y, x + 5u, c2);
    store(0u, at, Six(k0.a, k1.a, k2.a, k3.a, k4.a, k5.a));
    store(1u, at, Six(k0.b, k1.b, k2.b, k3.b, k4.b, k5.b));
    store(2u, at, Six(k0.c, k1.c, k2.c, k3.c, k4.c, k5.c));
    store(3u, at, Six(k0.d, k1.d, k2.d, k3.d, k4.d, k5.d));
    store(4u, at, Six(k0.e, k1.e, k2.e, k3.e, k4.e, k5.e));
    store(5u, at, Six(k0.f, k1.f, k2.f, k3.f, k4.f, k5.f));
}
