// total_variation: partial[g] = sum of row_weight * (image[y+1,x] - image[y,x])^2 + column_weight * (image[y,x+1] - image[y,x])^2,
//                  d_image += its gradient
// Shapes: image, d_image [H,W,4] (the fourth channel is padding and zero); partial [P].
// Grid: P workgroups of 256 threads stride over the pixels. Adds into d_image (+=), writes partial (=).
// Source: anishathalye/neural-style's form: squared differences, each direction averaged over its own count (in the weights).

struct Params {
    height: u32,
    width: u32,
    row_weight: f32,
    column_weight: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> image: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> d_image: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn total_variation(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var loss = 0.0;
    for (var i = group.x * 256u + local; i < params.height * params.width; i += groups.x * 256u) {
        let y = i / params.width;
        let x = i % params.width;
        let here = image[i];
        var gradient = vec4<f32>();
        if y + 1u < params.height {
            let down = image[i + params.width] - here;
            loss += params.row_weight * dot(down, down);
            gradient -= 2.0 * params.row_weight * down;
        }
        if y > 0u {
            gradient += 2.0 * params.row_weight * (here - image[i - params.width]);
        }
        if x + 1u < params.width {
            let right = image[i + 1u] - here;
            loss += params.column_weight * dot(right, right);
            gradient -= 2.0 * params.column_weight * right;
        }
        if x > 0u {
            gradient += 2.0 * params.column_weight * (here - image[i - 1u]);
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
