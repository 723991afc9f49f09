// winograd_output: output[4ty+i, 4tx+j, co] = relu(bias[co] + (A' m A)[i,j]) of the products m[i,j] = product[6i+j, n, co]
// Shapes: product [36,N,Co], bias [Co], output [H,W,Co], Co a multiple of 4. N tiles of 4x4 outputs, number first and those
//         after it, counted row by row: tile first + n lies at ty, tx.
//         mask [ceil(H/2), ceil(W/4), Co/4]: a word holds output > 0 of 2x4 pixels x 4 channels, bit ((y%2)*4 + x%4)*4 + c.
// Grid: x (folding into z past 65,535) = groups of 64 threads; a thread owns one tile x 4 channels, channels fastest.
// Writes output and mask (=, not +=) where the tiles lie. No workgroup memory.
// Four channels a thread, because two words of the mask are then its own: 24 vec4 are alive at once.
// Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> product: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> mask: array<u32>;

struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// A' times a column of six.
fn gathered(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>) -> Four {
    let p = b + c;
    let q = b - c;
    let r = d + e;
    let s = d - e;
    return Four(a + p + r, q + 2.0 * s, p + 4.0 * r, q + 8.0 * s + f);
}

// Column j of the products of one tile and four channels.
fn column(j: u32, at: u32) -> Four {
    let stride = params.count * (params.channels / 4u);
    return gathered(
        product[j * stride + at],
        product[(6u + j) * stride + at],
        product[(12u + j) * stride + at],
        product[(18u + j) * stride + at],
        product[(24u + j) * stride + at],
        product[(30u + j) * stride + at],
    );
}

// Writes one pixel's four channels through the ReLU and returns their four mask bits.
fn pixel(y: u32, x: u32, c4: u32, value: vec4<f32>) -> u32 {
    if y >= params.height || x >= params.width {
        return 0u;
    }
    let biased = value + bias[c4];
    output[(y * params.width + x) * (params.channels / 4u) + c4] = max(biased, vec4<f32>());
    let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), biased > vec4<f32>());
    return bits.x | bits.y | bits.z | bits.w;
}

fn row(y: u32, x: u32, c4: u32, v: Four) -> u32 {
    var bits = pixel(y, x, c4, v.a);
    bits |= pixel(y, x + 1u, c4, v.b) << 4u;
    bits |= pixel(y, x + 2u, c4, v.c) << 8u;
    bits |= pixel(y, x + 3u, c4, v.d) << 12u;
    return bits;
}

@compute @workgroup_size(64)
fn winograd_output(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quads = params.channels / 4u;
    let at = (group.x + group.z * groups.x) * 64u + local;
    let n = at / quads;
    if n >= params.count {
        return;
    }
    let c4 = at % quads;
    let tiles_x = (params.width + 3u) / 4u;
    let ty = (params.first + n) / tiles_x;
    let tx = (params.first + n) % tiles_x;
    let k0 = column(0u, at);
    let k1 = column(1u, at);
    let k2 = column(2u, at);
    let k3 = column(3u, at);
    let k4 = column(4u, at);
    let k5 = column(5u, at);
    let y = 4u * ty;
    let x = 4u * tx;
    var bits = row(y, x, c4, gathered(k0.a, k1.a, k2.a, k3.a, k4.a, k5.a));
    bits |= row(y + 1u, x, c4, gathered(k0.b, k1.b, k2.b, k3.b, k4.b, k5.b)) << 16u;
    mask[(2u * ty * tiles_x + tx) * quads + c4] = bits;
    if y + 2u < params.height {
        bits = row(y + 2u, x, c4, gathered(k0.c, k1.c, k2.c, k3.c, k4.c, k5.c));
        bits |= row(y + 3u, x, c4, gathered(k0.d, k1.d, k2.d, k3.d, k4.d, k5.d)) << 16u;
        mask[((2u * ty + 1u) * tiles_x + tx) * quads + c4] = bits;
    }
}
