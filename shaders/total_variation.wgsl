// total_variation: partial[g] = sum of w * |image[p] - image[q]|^2 over neighbours p, q (absolute = 1: the sum over
//                  the channels of w * |image[p] - image[q]|); d_image += its gradient.  w = row_weight for q below p,
//                  column_weight for q right of p, diagonal_weight for q right or left below p; on top of these,
//                  side_weight for rows in the first and in the last column, top_weight and bottom_weight for columns in
//                  the first and in the last row: what diagonals across a replicated border come to.
// Shapes: image, d_image [H,W,4] (the fourth channel is padding and zero); partial [P].
// Grid: P workgroups of 256 threads stride over the pixels. Adds into d_image (+=), writes partial (=).
// Source: the squared form is anishathalye/neural-style's, the absolute one ProGamerGov/neural-style-pt's, the one with
//         diagonals crowsonkb/style-transfer-pytorch's; all differ in the weights alone.

struct Params {
    height: u32,
    width: u32,
    row_weight: f32,
    column_weight: f32,
    diagonal_weight: f32,
    side_weight: f32,
    top_weight: f32,
    bottom_weight: f32,
    absolute: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> image: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> d_image: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> sums: array<f32, 256>;

fn size(difference: vec4<f32>) -> f32 {
    if params.absolute == 1u {
        return dot(abs(difference), vec4<f32>(1.0));
    }
    return dot(difference, difference);
}

fn slope(difference: vec4<f32>) -> vec4<f32> {
    if params.absolute == 1u {
        return sign(difference);
    }
    return 2.0 * difference;
}

@compute @workgroup_size(256)
fn total_variation(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let width = params.width;
    var loss = 0.0;
    for (var i = group.x * 256u + local; i < params.height * width; i += groups.x * 256u) {
        let y = i / width;
        let x = i % width;
        let has_left = x > 0u;
        let has_right = x + 1u < width;
        let here = image[i];
        let sides = select(1.0, 0.0, has_left) + select(1.0, 0.0, has_right);
        let row_weight = params.row_weight + sides * params.side_weight;
        let top = select(params.top_weight, 0.0, y > 0u);
        let column_weight = params.column_weight + top + select(params.bottom_weight, 0.0, y + 1u < params.height);
        var gradient = vec4<f32>();
        if y + 1u < params.height {
            let down = here - image[i + width];
            loss += row_weight * size(down);
            gradient += row_weight * slope(down);
        }
        if y > 0u {
            gradient += row_weight * slope(here - image[i - width]);
        }
        if has_right {
            let right = here - image[i + 1u];
            loss += column_weight * size(right);
            gradient += column_weight * slope(right);
        }
        if has_left {
            gradient += column_weight * slope(here - image[i - 1u]);
        }
        // From params alone.
        if params.diagonal_weight > 0.0 {
            var diagonal = vec4<f32>();
            if y + 1u < params.height && has_right {
                let falling = here - image[i + width + 1u];
                loss += params.diagonal_weight * size(falling);
                diagonal += slope(falling);
            }
            if y + 1u < params.height && has_left {
                let rising = here - image[i + width - 1u];
                loss += params.diagonal_weight * size(rising);
                diagonal += slope(rising);
            }
            if y > 0u && has_left {
                diagonal += slope(here - image[i - width - 1u]);
            }
            if y > 0u && has_right {
                diagonal += slope(here - image[i - width + 1u]);
            }
            gradient += params.diagonal_weight * diagonal;
        }
        d_image[i] += gradient;
    }
    sums[local] = loss;
    // A tree of fixed shape: the order of additions never changes. The stride is uniform.
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if local < stride {
            sums[local] += sums[local + stride];
        }
    }
    if local == 0u {
        partial[group.x] = sums[0];
    }
}
