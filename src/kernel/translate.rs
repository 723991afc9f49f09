//! The languages into which wgpu turns a shader, with the options of its backends where they matter.

use naga::back::{PipelineConstants, glsl, hlsl, msl, pipeline_constants, spv, wgsl};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::ModuleInfo;
use naga::{AddressSpace, Module, ResourceBinding, ShaderStage};

/// What a shader is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// WGSL, with overrides and names resolved.
    Wgsl,
    /// Metal's.
    Msl,
    /// DX12's.
    Hlsl,
    /// OpenGL ES 3.1's.
    Glsl,
}

/// The module with its overrides turned into constants, or why it cannot be.
pub fn resolved(module: &Module, info: &ModuleInfo, constants: &[(&str, f64)]) -> Result<(Module, ModuleInfo), String> {
    let constants: PipelineConstants = constants.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let (module, info) =
        pipeline_constants::process_overrides(module, info, None, &constants).map_err(|error| error.to_string())?;
    Ok((module.into_owned(), info.into_owned()))
}

/// The text in a language, or why that language cannot express it. Overrides must be resolved.
pub fn text(language: Language, name: &str, module: &Module, info: &ModuleInfo) -> Result<String, String> {
    match language {
        Language::Wgsl => {
            wgsl::write_string(module, info, wgsl::WriterFlags::empty()).map_err(|error| error.to_string())
        }
        Language::Msl => msl(name, module, info),
        Language::Hlsl => hlsl(name, module, info),
        Language::Glsl => glsl(name, module, info),
    }
}

/// Threads of a workgroup and bytes of its memory, rounded as WebGPU counts them. Overrides must be resolved.
pub fn workgroup(module: &Module) -> (u32, u32) {
    let memory = module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
        .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()).next_multiple_of(16))
        .sum();
    (module.entry_points.first().map_or(0, |entry| entry.workgroup_size.iter().product()), memory)
}

fn bindings(module: &Module) -> impl Iterator<Item = ResourceBinding> {
    module.global_variables.iter().filter_map(|(_, variable)| variable.binding)
}

fn policies() -> BoundsCheckPolicies {
    let restrict = BoundsCheckPolicy::Restrict;
    BoundsCheckPolicies { index: restrict, buffer: restrict, ..BoundsCheckPolicies::default() }
}

/// SPIR-V 1.3, which Vulkan 1.1 reads.
pub fn spirv(name: &str, module: &Module, info: &ModuleInfo) -> Result<Vec<u32>, String> {
    let options = spv::Options {
        lang_version: (1, 3),
        fake_missing_bindings: false,
        binding_map: bindings(module)
            .map(|at| (at, spv::BindingInfo { descriptor_set: at.group, binding: at.binding, ..Default::default() }))
            .collect(),
        bounds_check_policies: policies(),
        ..spv::Options::default()
    };
    let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into() };
    spv::write_vec(module, info, &options, Some(&entry)).map_err(|error| error.to_string())
}

/// Metal 2.0: what a Mac of 2017 reads; 2.3 where there are matrices for subgroups.
fn msl(name: &str, module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let resources = bindings(module)
        .map(|at| {
            let buffer = Some(at.binding as u8);
            (at, msl::BindTarget { buffer, mutable: true, ..msl::BindTarget::default() })
        })
        .collect();
    let cooperative = module.types.iter().any(|(_, ty)| matches!(ty.inner, naga::TypeInner::CooperativeMatrix { .. }));
    let slots = msl::EntryPointResources { resources, immediates_buffer: None, sizes_buffer: Some(30) };
    let options = msl::Options {
        lang_version: if cooperative { (2, 3) } else { (2, 0) },
        per_entry_point_map: [(name.to_string(), slots)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: policies(),
        ..msl::Options::default()
    };
    let entry = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, name.into())),
        ..msl::PipelineOptions::default()
    };
    let (text, translation) = msl::write_string(module, info, &options, &entry).map_err(|error| error.to_string())?;
    translation.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok(text)
}

/// Shader model 5.1: what the compiler that is part of Windows reads.
fn hlsl(name: &str, module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V5_1,
        binding_map: bindings(module)
            .map(|at| (at, hlsl::BindTarget { register: at.binding, ..hlsl::BindTarget::default() }))
            .collect(),
        fake_missing_bindings: false,
        ..hlsl::Options::default()
    };
    let entry = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, name.into())) };
    let mut text = String::new();
    let translation =
        hlsl::Writer::new(&mut text, &options, &entry).write(module, info, None).map_err(|error| error.to_string())?;
    translation.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok(text)
}

/// OpenGL ES 3.1: the smallest with compute shaders.
fn glsl(name: &str, module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let options = glsl::Options {
        version: glsl::Version::new_gles(310),
        binding_map: bindings(module).map(|at| (at, at.binding as u8)).collect(),
        ..glsl::Options::default()
    };
    let entry = glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: name.into(), multiview: None };
    let mut text = String::new();
    glsl::Writer::new(&mut text, module, info, &options, &entry, BoundsCheckPolicies::default())
        .and_then(|mut writer| writer.write())
        .map_err(|error| error.to_string())?;
    Ok(text)
}
