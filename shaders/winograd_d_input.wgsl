// winograd_d_input: d_input[4ty+i, 4tx+j, ci] = (A' m A)[i,j] of the products m[i,j] = product[6i+j, n, ci]
// Shapes: product [36,N,Ci], d_input [H,W,Ci], Ci a multiple of 4. N tiles of 4x4 positions, number first and those after
//         it, counted row by row: tile first + n lies at ty, tx.
// Grid: x (folding into z past 65,535) = groups of 64 threads; a thread owns one tile x 2 channels, channels fastest.
// Writes d_input (=, not +=) where the tiles lie. No workgroup memory. As winograd_output, without bias, ReLU and mask, hence
// two channels a thread: half of the registers.
// Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.3.

struct Params {
    height: u32,
    width: u32,
    channels: u32,
    first: u32,
    count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> product: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> d_input: array<vec2<f32>>;

struct Four {
    a: vec2<f32>,
    b: vec2<f32>,
    c: vec2<f32>,
    d: vec2<f32>,
}

// A' times a column of six.
fn gathered(a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32>, e: vec2<f32>, f: vec2<f32>) -> Four {
    let p = b + c;
    let q = b - c;
    let r = d + e;
    let s = d - e;
    return Four(a + p + r, q + 2.0 * s, p + 4.0 * r, q + 8.0 * s + f);
}

// Column j of the products of one tile and two channels.
fn column(j: u32, at: u32) -> Four {
    let stride = params.count * (params.channels / 2u);
    return gathered(
        product[j * stride + at],
        product[(6u + j) * stride + at],
        product[(12u + j) * stride + at],
        product[(18u + j) * stride + at],
        product[(24u + j) * stride + at],
        product[(30u + j) * stride + at],
    );
}

fn pixel(y: u32, x: u32, c2: u32, value: vec2<f32>) {
    if y < params.height && x < params.width {
        d_input[(y * params.width + x) * (params.channels / 2u) + c2] = value;
    }
}

fn row(y: u32, x: u32, c2: u32, v: Four) {
    pixel(y, x, c2, v.a);
    pixel(y, x + 1u, c2, v.b);
    pixel(y, x + 2u, c2, v.c);
    pixel(y, x + 3u, c2, v.d);
}

@compute @workgroup_size(64)
fn winograd_d_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pairs = params.channels / 2u;
    let at = (group.x + group.z * groups.x) * 64u + local;
    let n = at / pairs;
    if n >= params.count {
        return;
    }
    let c2 = at % pairs;
    let tiles_x = (params.width + 3u) / 4u;
    let y = ((params.first + n) / tiles_x) * 4u;
    let x = ((params.first + n) % tiles_x) * 4u;
    let k0 = column(0u, at);
    let k1 = column(1u, at);
    let k2 = column(2u, at);
    let k3 = column(3u, at);
    let k4 = column(4u, at);
    let k5 = column(5u, at);
    row(y, x, c2, gathered(k0.a, k1.a, k2.a, k3.a, k4.a, k5.a));
    row(y + 1u, x, c2, gathered(k0.b, k1.b, k2.b, k3.b, k4.b, k5.b));
    row(y + 2u, x, c2, gathered(k0.c, k1.c, k2.c, k3.c, k4.c, k5.c));
    row(y + 3u, x, c2, gathered(k0.d, k1.d, k2.d, k3.d, k4.d, k5.d));
}
