//! The adapters that there are, and which is taken.

use super::context::GpuChoice;
use super::matrices;

/// What `impasto devices` says of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterReport {
    /// Marketing name.
    pub name: String,
    /// Vulkan, Metal or DX12.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// Driver name and version.
    pub driver: String,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Those of [`FEATURES`] that it has.
    pub features: Vec<&'static str>,
    /// Shapes and types of the matrix products that subgroups can do together: `16x16x16 f16 -> f32` is M x N x K, the
    /// elements of both factors, and those of the sum.
    pub cooperative_matrices: Vec<String>,
}

pub(super) fn instance() -> wgpu::Instance {
    // The environment may narrow the backends (WGPU_BACKEND), switch validation on (WGPU_VALIDATION=1), or have
    // graphics debuggers told the name of every launch (WGPU_DEBUG=1; debug builds do so anyway).
    wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env())
}

pub(super) fn enumerate() -> Vec<wgpu::Adapter> {
    pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// Optional features that bear on speed, as [`AdapterReport`] names them.
pub const FEATURES: [&str; 4] = ["f16", "subgroups", "cooperative matrices", "timestamps"];

/// Kinds of adapter, best first.
const KINDS: [&str; 5] = ["discrete", "integrated", "virtual", "other", "software"];
/// How many of them are taken unasked. What lies behind a virtual adapter is not known, and a software renderer is
/// slower than the CPU engine.
const HARDWARE: usize = 2;

/// Which of adapters of these kinds a choice by kind takes: the first of the best kind. `None` where it takes none, or
/// does not go by the kind.
pub fn preferred(kinds: &[&str], choice: &GpuChoice) -> Option<usize> {
    let accepted = match choice {
        GpuChoice::Hardware => &KINDS[..HARDWARE],
        GpuChoice::Any => &KINDS[..],
        GpuChoice::Name(_) | GpuChoice::Index(_) => return None,
    };
    accepted.iter().find_map(|wanted| kinds.iter().position(|kind| kind == wanted))
}

pub(super) fn kind(info: &wgpu::AdapterInfo) -> &'static str {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

/// Every adapter that Vulkan, Metal or DX12 offers, in the order of `GpuChoice::Index`.
pub fn adapters() -> Vec<AdapterReport> {
    enumerate()
        .iter()
        .map(|adapter| {
            let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
            let flags = [
                wgpu::Features::SHADER_F16,
                wgpu::Features::SUBGROUP,
                wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX,
                wgpu::Features::TIMESTAMP_QUERY,
            ];
            let known = flags.iter().zip(FEATURES);
            AdapterReport {
                kind: kind(&info),
                backend: info.backend.to_string(),
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
                name: info.name,
                max_binding: limits.max_storage_buffer_binding_size,
                max_buffer: limits.max_buffer_size,
                workgroup_memory: limits.max_compute_workgroup_storage_size,
                cooperative_matrices: matrices::listed(adapter),
                features: known.filter(|(flag, _)| features.contains(**flag)).map(|(_, name)| name).collect(),
            }
        })
        .collect()
}

pub(super) fn name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({}, {})", info.name, info.backend, kind(info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discrete_comes_before_integrated_and_the_rest_only_when_asked_for() {
        for (kinds, hardware, any) in [
            (&["software", "integrated", "discrete", "discrete"][..], Some(2), Some(2)),
            (&["other", "software", "integrated", "virtual"], Some(2), Some(2)),
            (&["software", "other", "virtual"], None, Some(2)),
            (&["software", "other"], None, Some(1)),
            (&["software", "software"], None, Some(0)),
            (&[], None, None),
        ] {
            let found = [GpuChoice::Hardware, GpuChoice::Any].map(|choice| preferred(kinds, &choice));
            assert_eq!(found, [hardware, any], "{kinds:?}");
        }
        assert_eq!(preferred(&["discrete"], &GpuChoice::Index(0)), None, "not a matter of kind");
    }
}
