// scaled_loss: losses[slot] += scale * sums[0] / (sums[1] + epsilon)
// Shapes: sums [2], those of squares and of absolutes over the whole picture; losses [L].
// Grid: one thread. Adds into one entry of losses (+=).
// Source: crowsonkb/style-transfer-pytorch: squared differences, scaled so that the gradient's L1 norm is about 1.

struct Params {
    slot: u32,
    scale: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(1)
fn scaled_loss() {
    losses[params.slot] += params.scale * (sums[0] / (sums[1] + params.epsilon));
}
