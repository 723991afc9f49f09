// epoch: epoch[0] += 1. One thread. Counts the compute passes that a device really carried out: see epoch.rs.

@group(0) @binding(0) var<storage, read_write> epoch: array<u32>;

@compute @workgroup_size(1)
fn epoch_count() {
    epoch[0] += 1u;
}
