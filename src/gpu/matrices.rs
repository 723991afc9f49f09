//! What an adapter multiplies matrices with.

use crate::recording::Matrices;

/// Matrix units that the shaders can use: square products of halves with sums in single precision, the larger ones first,
/// by subgroups of one known size, which not all of AMD's and Intel's GPUs have.
pub(super) fn usable(adapter: &wgpu::Adapter) -> Option<Matrices> {
    let info = adapter.get_info();
    let features = wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    // A workgroup of the shaders' has eight subgroups at most, and WebGPU promises 256 threads.
    let subgroup = match info.backend {
        // Of every GPU of Apple's; wgpu gives the range that any might have.
        wgpu::Backend::Metal => Some(32),
        _ => Some(info.subgroup_max_size).filter(|size| *size == info.subgroup_min_size && (8..=64).contains(size)),
    }?;
    // What conv3x3_cooperative16 takes.
    let roomy = adapter.limits().max_compute_workgroup_storage_size >= 28 << 10;
    if !adapter.features().contains(features) {
        return None;
    }
    let found = adapter.cooperative_matrix_properties();
    let offers = |edge: u32| {
        found.iter().any(|found| {
            [found.m_size, found.n_size, found.k_size] == [edge; 3]
                && found.ab_type == wgpu::CooperativeScalarType::F16
                && found.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    let edge = [16, 8].into_iter().find(|edge| offers(*edge) && (*edge == 8 || roomy))?;
    Some(Matrices { edge, subgroup })
}

/// All that an adapter offers, for people.
pub(super) fn listed(adapter: &wgpu::Adapter) -> Vec<String> {
    let name = |scalar: wgpu::CooperativeScalarType| format!("{scalar:?}").to_lowercase();
    let line = |found: &wgpu::CooperativeMatrixProperties| {
        let (from, to) = (name(found.ab_type), name(found.cr_type));
        format!("{}x{}x{} {from} -> {to}", found.m_size, found.n_size, found.k_size)
    };
    adapter.cooperative_matrix_properties().iter().map(line).collect()
}
