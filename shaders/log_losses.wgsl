// log_losses: ring[step % R, l] = losses[l] for every term l; then step += 1
// Shapes: losses [L], ring [R,L], step [1].
// Grid: one thread. It closes an iteration, so that many can run in one submission without the host.

struct Params {
    terms: u32,
    capacity: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> ring: array<f32>;
@group(0) @binding(3) var<storage, read_write> step: array<u32>;

@compute @workgroup_size(1)
fn log_losses() {
    let row = step[0] % params.capacity;
    for (var term = 0u; term < params.terms; term++) {
        ring[row * params.terms + term] = losses[term];
    }
    step[0] += 1u;
}
