// clear: buffer[i] = 0. A launch, because wgpu's own clears stand outside passes: one in the middle makes two passes, each
// a command buffer or two, of what is one otherwise.
// Grid: a workgroup for each 256 words, as far as a grid goes; each then takes another.
@group(0) @binding(0) var<storage, read_write> buffer: array<u32>;

@compute @workgroup_size(256)
fn clear(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < arrayLength(&buffer); i += 256u * groups.x) {
        buffer[i] = 0u;
    }
}
