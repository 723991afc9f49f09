// winograd_d_output: tiles[6i+j, n, c] = (B' d B)[i,j] of the patch d[i,j] = gate[4ty+i-1, 4tx+j-1, c], zero outside,
//                    gate = d_output where the forward output was > 0, else 0 (the ReLU's derivative, 0 at 0)
// Shapes: d_output [H,W,C], C a multiple of 4; mask [ceil(H/2), ceil(W/4), C/4] as the forward pass wrote it;
//         tiles [36,N,C]: N tiles of 4x4 positions, number first and those after it, counted row by row.
// Grid: x (folding into z past 65,535) = groups of 64 threads; a thread owns one tile x 2 channels, channels fastest.
// Writes tiles (=, not +=). No workgroup memory. As winograd_input, but for the gate: a column of a patch spans four words
// of the mask, which two threads and the neighbouring tile read too, so that they come from the caches.
// Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> d_output: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> mask: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<vec2<f32>>;

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

// The mask's word for two rows, number pair - 1 of them, and the block of columns around a column.
fn word(pair: u32, column: u32, c2: u32) -> u32 {
    if pair == 0u || pair > (params.height + 1u) / 2u {
        return 0u;
    }
    return mask[((pair - 1u) * ((params.width + 3u) / 4u) + column / 4u) * (params.channels / 4u) + c2 / 2u];
}

// Row y - 1, as far as the two lowest bits let it through. y is offset by one: the padding row 0 needs no signed arithmetic.
fn load(y: u32, column: u32, c2: u32, bits: u32) -> vec2<f32> {
    if y == 0u || y > params.height {
        return vec2<f32>();
    }
    let value = d_output[((y - 1u) * params.width + column) * (params.channels / 2u) + c2];
    return select(vec2<f32>(), value, (vec2<u32>(bits) & vec2<u32>(1u, 2u)) != vec2<u32>());
}

// x is offset by one, too. y is a multiple of 4: its first row, y - 1, is the lower one of a word.
fn column(y: u32, x: u32, c2: u32) -> Six {
    if x == 0u || x > params.width {
        return Six();
    }
    let k = x - 1u;
    let shift = (k % 4u) * 4u + (c2 % 2u) * 2u;
    let above = word(y / 2u, k, c2) >> shift;
    let upper = word(y / 2u + 1u, k, c2) >> shift;
    let lower = word(y / 2u + 2u, k, c2) >> shift;
    let below = word(y / 2u + 3u, k, c2) >> shift;
    return transformed(Six(
        load(y, k, c2, above >> 16u),
        load(y + 1u, k, c2, upper),
        load(y + 2u, k, c2, upper >> 16u),
        load(y + 3u, k, c2, lower),
        load(y + 4u, k, c2, lower >> 16u),
        load(y + 5u, k, c2, below),
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
fn winograd_d_output(
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
