//! Every shader against its host declaration, the limits of WebGPU, and the four languages it is translated to.
//! Needs no GPU. Walks the kernel list, so a new kernel is covered by being listed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
#[path = "shaders/spy.rs"]
mod spy;

use std::collections::{BTreeSet, HashMap};

use impasto::kernel::translate::{self, Language};
use impasto::kernel::{Kernel, Needs, Scalar};
use impasto::ops::KERNELS;
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Module, ShaderStage, StorageAccess, TypeInner};

/// WebGPU's default limits, which every conforming device meets.
const WORKGROUP_MEMORY: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
const STORAGE_BINDINGS: usize = 8;
/// Workgroups along one axis of a grid.
const GRID: u32 = 65_535;
/// A shader that needs more lines is two ideas.
const LINES: usize = 200;

/// Access of the binding names that mean the same in every kernel; all others are free.
const MEANING: &[(&str, &str)] = &[
    ("input", "read"),
    ("weight", "read"),
    ("bias", "read"),
    ("d_output", "read"),
    ("output", "read_write"),
    ("d_input", "read_write"),
];

fn parse(source: &str, capabilities: Capabilities) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| error.emit_to_string(source))?;
    Ok((module, info))
}

fn scalar(of: naga::Scalar) -> Option<Scalar> {
    match of {
        naga::Scalar::F32 => Some(Scalar::F32),
        naga::Scalar::U32 => Some(Scalar::U32),
        _ => None,
    }
}

/// Everything that is wrong with a kernel whose file reads `source`.
fn faults(kernel: &Kernel, source: &str) -> Vec<String> {
    let mut faults = header_faults(kernel, source);
    match parse(source, kernel.needs.capabilities()) {
        Err(error) => faults.push(error),
        Ok((module, info)) => {
            faults.extend(entry_faults(kernel, &module));
            faults.extend(params_faults(kernel, &module));
            faults.extend(binding_faults(kernel, &module, &info));
        }
    }
    faults
}

/// `// name: what`, then Shapes, which name every binding, then Grid: the rules of shaders/README.md.
fn header_faults(kernel: &Kernel, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let header: Vec<&str> = source.lines().take_while(|line| line.starts_with("//")).collect();
    if !source.starts_with(&format!("// {}: ", kernel.name)) {
        faults.push(format!("does not start with `// {}: `", kernel.name));
    }
    for line in ["// Shapes: ", "// Grid: "] {
        if !header.iter().any(|text| text.starts_with(line)) {
            faults.push(format!("has no line `{line}`"));
        }
    }
    let shapes = header.iter().skip_while(|line| !line.starts_with("// Shapes: "));
    let words: BTreeSet<&str> = shapes
        .take_while(|line| !line.starts_with("// Grid: "))
        .flat_map(|line| line.split(|c: char| c != '_' && !c.is_alphanumeric()))
        .collect();
    for binding in kernel.bindings.iter().filter(|binding| !words.contains(binding.name)) {
        faults.push(format!("Shapes do not mention `{}`", binding.name));
    }
    if source.lines().count() > LINES {
        faults.push(format!("has more than {LINES} lines"));
    }
    let mut comments = source.lines().filter_map(|line| Some(line.split_once("//")?.1));
    if source.contains("Barrier()") && !comments.any(|comment| comment.contains("uniform")) {
        faults.push("has a barrier, but does not say why control flow is uniform".into());
    }
    if source.contains("atomic<") {
        faults.push("uses atomics: their order would change the bits of a result".into());
    }
    faults
}

fn entry_faults(kernel: &Kernel, module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    match module.entry_points.as_slice() {
        [entry] if entry.name == kernel.name && entry.stage == ShaderStage::Compute => {}
        entries => {
            let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            faults.push(format!("entry points are {names:?}, expected one that is named like the file"));
        }
    }
    for (_, constant) in module.overrides.iter().filter(|(_, constant)| constant.init.is_none()) {
        faults.push(format!("override {:?} has no default", constant.name));
    }
    faults
}

/// The uniform struct and the host's field list: names, types, offsets, in order.
fn params_faults(kernel: &Kernel, module: &Module) -> Vec<String> {
    let uniforms: Vec<_> =
        module.global_variables.iter().filter(|(_, variable)| variable.space == AddressSpace::Uniform).collect();
    let [(_, params)] = uniforms.as_slice() else {
        return vec![format!("{} uniforms, expected params alone", uniforms.len())];
    };
    let mut faults = Vec::new();
    if params.name.as_deref() != Some("params") {
        faults.push(format!("the uniform is called {:?}, not params", params.name));
    }
    let TypeInner::Struct { members, .. } = &module.types[params.ty].inner else {
        return vec!["params is not a struct".into()];
    };
    let shader: Vec<_> = members
        .iter()
        .map(|member| {
            let TypeInner::Scalar(of) = module.types[member.ty].inner else { return (member.name.clone(), None, 0) };
            (member.name.clone(), scalar(of), member.offset)
        })
        .collect();
    let host: Vec<_> = (0u32..)
        .zip(kernel.params)
        .map(|(at, (name, scalar))| (Some(name.to_string()), Some(*scalar), 4 * at))
        .collect();
    if shader != host {
        faults.push(format!("params differ:\n  shader {shader:?}\n  host   {host:?}"));
    }
    faults
}

/// Storage bindings: names, element types, shapes, access as declared and as used, numbers.
fn binding_faults(kernel: &Kernel, module: &Module, info: &ModuleInfo) -> Vec<String> {
    let mut faults = Vec::new();
    let used = info.get_entry_point(0);
    let mut numbers = Vec::new();
    let mut storage = HashMap::new();
    for (handle, variable) in module.global_variables.iter() {
        let name = variable.name.clone().unwrap_or_default();
        if let Some(at) = &variable.binding {
            numbers.push((at.group, at.binding));
        }
        match variable.space {
            AddressSpace::Uniform | AddressSpace::WorkGroup => {}
            AddressSpace::Storage { access } => {
                let writes = access.contains(StorageAccess::STORE);
                if writes && !used[handle].contains(GlobalUse::WRITE) {
                    faults.push(format!("`{name}` is read_write, but nothing is stored to it"));
                }
                if !writes && used[handle] != GlobalUse::READ {
                    faults.push(format!("`{name}` is read, but is used as {:?}", used[handle]));
                }
                let access = if writes { "read_write" } else { "read" };
                if let Some((_, meant)) = MEANING.iter().find(|(known, meant)| *known == name && *meant != access) {
                    faults.push(format!("`{name}` is {access}; in every kernel it is {meant}"));
                }
                storage.insert(name, variable.ty);
            }
            other => faults.push(format!("`{name}` lives in {other:?}")),
        }
    }
    if numbers.iter().enumerate().any(|(i, number)| *number != (0, i as u32)) {
        faults.push(format!("bindings are not numbered 0, 1, 2 … in group 0 as they stand: {numbers:?}"));
    }
    if storage.len() > STORAGE_BINDINGS {
        faults.push(format!("{} storage bindings, WebGPU promises {STORAGE_BINDINGS}", storage.len()));
    }
    let mut letters = BTreeSet::new();
    for binding in kernel.bindings {
        let Some(ty) = storage.remove(binding.name) else {
            faults.push(format!("the host declares `{}`, the shader does not", binding.name));
            continue;
        };
        let Some((of, lanes)) = element(module, ty) else {
            faults.push(format!("`{}` is not a runtime array of numbers or vectors", binding.name));
            continue;
        };
        if of != binding.scalar {
            faults.push(format!("`{}` holds {of:?}, the host declares {:?}", binding.name, binding.scalar));
        }
        faults
            .extend(shape_fault(binding.shape, lanes, &mut letters).map(|what| format!("`{}`: {what}", binding.name)));
    }
    faults.extend(storage.keys().map(|name| format!("the shader binds `{name}`, the host does not declare it")));
    faults
}

/// Scalar and lanes of a runtime array's elements.
fn element(module: &Module, ty: naga::Handle<naga::Type>) -> Option<(Scalar, usize)> {
    let TypeInner::Array { base, size: ArraySize::Dynamic, .. } = module.types[ty].inner else { return None };
    match module.types[base].inner {
        TypeInner::Scalar(of) => Some((scalar(of)?, 1)),
        // A vec3 has the stride of a vec4: not a packed tensor.
        TypeInner::Vector { size, scalar: of } if size != naga::VectorSize::Tri => Some((scalar(of)?, size as usize)),
        _ => None,
    }
}

/// Dimensions are numbers, letters (`H`, `Ci`), or `X/k` of a letter that came before; vectors divide the last one.
fn shape_fault(shape: &'static str, lanes: usize, letters: &mut BTreeSet<&'static str>) -> Option<String> {
    let symbols: Vec<&str> = shape.split(' ').collect();
    for symbol in &symbols {
        let (letter, divisor) = symbol.split_once('/').unwrap_or((symbol, "1"));
        let number = letter.parse::<usize>().is_ok();
        let named = letter.starts_with(|c: char| c.is_ascii_uppercase()) && letter.chars().all(char::is_alphanumeric);
        if !(number || named) || divisor.parse::<usize>().is_err() {
            return Some(format!("shape {shape:?} is not made of letters and numbers"));
        }
        if symbol.contains('/') && !letters.contains(letter) {
            return Some(format!("{symbol} in {shape:?}: no earlier dimension is {letter} alone"));
        }
        letters.insert(letter);
    }
    let last = symbols.last().and_then(|symbol| symbol.parse::<usize>().ok());
    last.filter(|size| size % lanes != 0).map(|size| format!("the last dimension, {size}, is no multiple of {lanes}"))
}

/// Each language that drivers read, with the reason where there is no translation. What a kernel [`Needs`](impasto::kernel::Needs) exempts it from some.
fn translations(name: &str, module: &Module, info: &ModuleInfo) -> Vec<(&'static str, Result<(), String>)> {
    let text = |language| translate::text(language, name, module, info).map(drop);
    vec![
        ("SPIR-V", translate::spirv(name, module, info).map(drop)),
        ("MSL", text(Language::Msl)),
        ("HLSL", text(Language::Hlsl)),
        ("GLSL", text(Language::Glsl)),
    ]
}

#[test]
fn every_file_is_a_kernel_and_every_kernel_a_file() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let kernels: BTreeSet<String> = KERNELS.iter().map(|kernel| format!("{}.wgsl", kernel.name)).collect();
    assert_eq!(files, kernels);
    assert_eq!(kernels.len(), KERNELS.len(), "a kernel is listed twice");
}

#[test]
fn kernels_that_run_without_checks_are_kernels() {
    for name in impasto::gpu::UNCHECKED {
        assert!(KERNELS.iter().any(|kernel| kernel.name == name), "{name}");
    }
}

#[test]
fn every_shader_agrees_with_its_host_declaration() {
    let all: Vec<String> = KERNELS
        .iter()
        .flat_map(|kernel| faults(kernel, kernel.source).into_iter().map(|fault| format!("{}: {fault}", kernel.name)))
        .collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn every_variant_in_use_fits_the_limits_of_webgpu() {
    for (kernel, constants) in spy::variants() {
        let (module, info) = parse(kernel.source, kernel.needs.capabilities()).unwrap();
        let (module, _) = translate::resolved(&module, &info, &constants).unwrap();
        let (threads, memory) = translate::workgroup(&module);
        println!("{} {constants:?}: {threads} threads, {memory} bytes", kernel.name);
        assert!(threads <= INVOCATIONS, "{} {constants:?}: {threads} threads", kernel.name);
        // Devices that have such units have as much.
        let room = if kernel.needs == Needs::Matrices16 { 28 << 10 } else { WORKGROUP_MEMORY };
        assert!(memory <= room, "{} {constants:?}: {memory} bytes", kernel.name);
    }
}

#[test]
fn every_launch_of_a_run_fits_the_grid_of_webgpu() {
    let launches = spy::launches();
    assert!(launches.len() > 100);
    for launch in launches {
        let fits = launch.grid.iter().all(|groups| (1..=GRID).contains(groups));
        assert!(fits, "{} {}: {:?}", launch.kernel.name, launch.label, launch.grid);
    }
}

#[test]
fn every_variant_in_use_translates_to_the_four_languages_of_the_drivers() {
    for (kernel, constants) in spy::variants() {
        let (module, info) = parse(kernel.source, kernel.needs.capabilities()).unwrap();
        let (module, info) = translate::resolved(&module, &info, &constants).unwrap();
        for (language, translation) in translations(kernel.name, &module, &info) {
            if let Some(why) = kernel.needs.excused(language) {
                println!("{} is not translated to {language}: {why}", kernel.name);
                continue;
            }
            if let Err(error) = translation {
                panic!("{} {constants:?} to {language}: {error}", kernel.name);
            }
        }
    }
}

/// The shaders that are no kernels: they are the GPU engine's own.
#[test]
fn the_engine_s_own_shaders_translate_too() {
    for (name, source) in
        [("epoch_count", include_str!("../src/gpu/epoch.wgsl")), ("clear", include_str!("../src/gpu/clear.wgsl"))]
    {
        let (module, info) = parse(source, Capabilities::empty()).unwrap();
        for (language, translation) in translations(name, &module, &info) {
            assert!(translation.is_ok(), "{name} to {language}: {translation:?}");
        }
    }
}

/// Kernel, text in its shader, replacement, a part of the fault that must be found.
const DRIFT: &[(&str, &str, &str, &str)] = &[
    ("conv3x3", "// conv3x3: ", "// conv: ", "does not start with"),
    ("conv3x3", "// Grid: ", "// Launch: ", "no line `// Grid: `"),
    ("conv3x3", "fn conv3x3(", "fn conv(", "entry points"),
    ("conv3x3", "PIXEL_THREADS: u32 = 8u;", "PIXEL_THREADS: u32;", "has no default"),
    ("conv3x3", "    height: u32,\n    width: u32,", "    width: u32,\n    height: u32,", "params differ"),
    ("conv3x3", "@binding(5)", "@binding(6)", "not numbered"),
    ("adam", "pixels", "count", "params differ"),
    ("adam", "    beta1: f32,", "", "beta1"),
    ("adam", "beta2: f32,", "beta2: f32,\n    spare: f32,", "params differ"),
    ("adam", "iterations: u32", "@size(8) iterations: u32", "params differ"),
    ("adam", "params", "settings", "the uniform is called"),
    ("adam", "read> step: array<u32>", "read> now: array<u32>, step", "expected"),
    ("adam", "@binding(5)", "@binding(4)", "conflict"),
    ("adam", "d_image, m, v [H,W,4]", "d_image, v [H,W,4]", "Shapes do not mention `m`"),
    ("adam", "read_write> v:", "read> v:", "adam"),
    ("adam", "read> d_image:", "read_write> d_image:", "`d_image` is read_write, but nothing is stored"),
    ("log_losses", "losses", "terms_of_loss", "the host declares `losses`, the shader does not"),
    ("log_losses", "step[0] += 1u;", "", "`step` is read_write, but nothing is stored"),
    ("pool_max", "read> input:", "read_write> input:", "in every kernel it is read"),
    ("pool_max", "output[(out_y", "input[(out_y", "pool_max"),
    ("pool_max", "array<u32>", "array<atomic<u32>>", "atomics"),
    ("sum_reduce", "The stride is uniform.", "", "why control flow is uniform"),
    ("sum_reduce", "array<f32>;", "array<vec3<f32>>;", "sum_reduce"),
];

#[test]
fn every_kind_of_drift_is_noticed() {
    for (name, text, replacement, expected) in DRIFT {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == *name).unwrap();
        assert!(kernel.source.contains(text), "{name} no longer says {text:?}: choose another mutation");
        let faults = faults(kernel, &kernel.source.replace(text, replacement)).join("\n");
        println!("{name}: {text:?} -> {replacement:?}\n{faults}\n");
        assert!(faults.contains(expected), "{name} with {replacement:?} for {text:?} gave {faults:?}");
    }
}

#[test]
fn a_host_declaration_that_drifts_is_noticed_too() {
    let adam = KERNELS.iter().find(|kernel| kernel.name == "adam").unwrap();
    let with = |bindings, params| {
        let kernel = Kernel { name: "adam", source: adam.source, bindings, params, needs: adam.needs, twin: adam.twin };
        faults(&kernel, adam.source).join("\n")
    };
    assert_eq!(with(adam.bindings, adam.params), "");
    let mut params = adam.params.to_vec();
    params.swap(2, 3);
    assert!(with(adam.bindings, params.leak()).contains("params differ"));
    assert!(with(&adam.bindings[1..], adam.params).contains("the host does not declare it"));
    for (shape, fault) in [
        ("H W Ci/4", "no earlier dimension is Ci alone"),
        ("H W 3", "no multiple of 4"),
        ("h w c", "is not made of letters"),
        ("H  4", "is not made of letters"),
    ] {
        let mut bindings = adam.bindings.to_vec();
        bindings[0].shape = shape;
        assert!(with(bindings.leak(), adam.params).contains(fault), "{shape}");
    }
    let mut bindings = adam.bindings.to_vec();
    bindings[0].scalar = Scalar::U32;
    assert!(with(bindings.leak(), adam.params).contains("the host declares U32"));
}

#[test]
fn the_spirv_validator_of_khronos_accepts_every_variant_in_use() {
    let test = "spirv-val over every kernel";
    if std::process::Command::new("spirv-val").arg("--version").output().is_err() {
        return common::skip(test, "spirv-val is not installed (Debian: spirv-tools)");
    }
    let version = std::process::Command::new("spirv-val").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout);
    // `SPIRV-Tools v2023.4 …`
    let known = version.split("SPIRV-Tools v").nth(1).and_then(|rest| rest.split([' ', '-', '\n']).next());
    let number = known
        .and_then(|number| number.split_once('.'))
        .map(|(year, minor)| (year.parse::<u32>(), minor.parse::<u32>()));
    let knows_matrices = matches!(number, Some((Ok(year), Ok(minor))) if (year, minor) >= (2023, 4));
    let folder = tempfile::tempdir().unwrap();
    for (count, (kernel, constants)) in spy::variants().into_iter().enumerate() {
        let (module, info) = parse(kernel.source, kernel.needs.capabilities()).unwrap();
        let (module, info) = translate::resolved(&module, &info, &constants).unwrap();
        let mut words = translate::spirv(kernel.name, &module, &info).unwrap();
        // The first file also proves that the validator refuses: its entry point is gone.
        for broken in if count == 0 { &[true, false][..] } else { &[false] } {
            if *broken {
                words.truncate(words.len() - 1);
            } else {
                words = translate::spirv(kernel.name, &module, &info).unwrap();
            }
            let file = folder.path().join(format!("{}.spv", kernel.name));
            std::fs::write(&file, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
            // Versions before 2023.4 do not know the units.
            if kernel.needs != Needs::Nothing && !knows_matrices {
                common::skip(kernel.name, "this spirv-val does not know cooperative matrices");
                continue;
            }
            let run = ["--target-env", if kernel.needs == Needs::Nothing { "vulkan1.1" } else { "vulkan1.3" }];
            let output = std::process::Command::new("spirv-val").args(run).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), !broken, "{} {constants:?}: {said}", kernel.name);
        }
    }
}
