// split_picture: output[y,x,c] = half(input[y,x,c]), output[y,x,4+c] = half(input[y,x,c] - half(input[y,x,c]))
// Shapes: input [H,W,4], f32; output [H,W,4], words of two halves: eight channels, which add up to input in 22 bits.
// Grid: one thread per pixel, 256 a workgroup, x folding into z. Writes output (=, not +=).
// A half has steps of 1/8 in a picture's whites: the network would see bands in a sky. With its weights taken twice it sees
// the sum of both, and the first layer is a convolution like the others.

struct Params {
    pixels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<u32>>;

// The nearest half, as a single.
fn near(value: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(value);
    return bitcast<vec4<f32>>((bits + 0xfffu + ((bits >> vec4<u32>(13u)) & vec4<u32>(1u))) & vec4<u32>(0xffffe000u));
}

@compute @workgroup_size(256)
fn split_picture(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let at = (group.x + group.z * groups.x) * 256u + local;
    if at >= params.pixels {
        return;
    }
    let high = near(input[at]);
    let low = near(input[at] - high);
    output[at] = vec4<u32>(pack2x16float(high.xy), pack2x16float(high.zw), pack2x16float(low.xy), pack2x16float(low.zw));
}
