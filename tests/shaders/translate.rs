//! The four languages into which wgpu turns a shader, with the options of its backends where they matter.

use naga::back::{PipelineConstants, glsl, hlsl, msl, pipeline_constants, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::ModuleInfo;
use naga::{Module, ResourceBinding, ShaderStage};

/// The module with its overrides turned into constants.
pub(crate) fn resolved(module: &Module, info: &ModuleInfo, constants: &[(&str, f64)]) -> (Module, ModuleInfo) {
    let constants: PipelineConstants = constants.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let (module, info) = pipeline_constants::process_overrides(module, info, None, &constants).unwrap();
    (module.into_owned(), info.into_owned())
}

/// Each language with its text or the reason why there is none. No kernel is exempt.
pub(crate) fn all(name: &str, module: &Module, info: &ModuleInfo) -> Vec<(&'static str, Result<String, String>)> {
    vec![
        ("SPIR-V", spirv(name, module, info).map(|words| format!("{} words", words.len()))),
        ("MSL", msl(name, module, info)),
        ("HLSL", hlsl(name, module, info)),
        ("GLSL", glsl(name, module, info)),
    ]
}

fn bindings(module: &Module) -> impl Iterator<Item = ResourceBinding> {
    module.global_variables.iter().filter_map(|(_, variable)| variable.binding)
}

fn policies() -> BoundsCheckPolicies {
    let restrict = BoundsCheckPolicy::Restrict;
    BoundsCheckPolicies { index: restrict, buffer: restrict, ..BoundsCheckPolicies::default() }
}

/// SPIR-V 1.3, which Vulkan 1.1 reads.
pub(crate) fn spirv(name: &str, module: &Module, info: &ModuleInfo) -> Result<Vec<u32>, String> {
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

/// Metal 2.0: what a Mac of 2017 reads.
fn msl(name: &str, module: &Module, info: &ModuleInfo) -> Result<String, String> {
    let resources = bindings(module)
        .map(|at| {
            let buffer = Some(at.binding as u8);
            (at, msl::BindTarget { buffer, mutable: true, ..msl::BindTarget::default() })
        })
        .collect();
    let slots = msl::EntryPointResources { resources, immediates_buffer: None, sizes_buffer: Some(30) };
    let options = msl::Options {
        lang_version: (2, 0),
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
