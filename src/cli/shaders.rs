//! `impasto shaders`: what there is, and what drivers get to read.

use std::path::PathBuf;
use std::process::Command;

use clap::{Args, ValueEnum};
use impasto::error::{Error, Result};
use impasto::kernel::registers::registers;
use impasto::kernel::translate::{Language, resolved, spirv, text, workgroup};
use impasto::kernel::{Kernel, Scalar};
use impasto::ops::KERNELS;
use impasto::picture::write_file;
use impasto::profile::{Shape, alone};
use impasto::recording::Command as Recorded;

use super::{Outcome, note, out};

/// For operations per byte where a kernel's depend on the shape.
const USUAL: Shape = Shape { height: 56, width: 56, inputs: 256, outputs: 256 };

#[derive(Args, Debug)]
pub(crate) struct Shaders {
    /// Kernel to show; without one all are listed
    kernel: Option<String>,
    /// Language to show it in
    #[arg(long, default_value = "source")]
    lang: LanguageName,
    /// Value of an override constant, e.g. --set DEPTH=8; the shader's own if not given
    #[arg(long, value_parser = parse_constant, value_name = "NAME=VALUE")]
    set: Vec<(String, f64)>,
    /// Write it to a file
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LanguageName {
    /// The file as it is
    Source,
    /// WGSL with overrides resolved
    Wgsl,
    /// SPIR-V as text, through spirv-dis
    SpirvText,
    /// SPIR-V as words, to --output
    Spirv,
    /// Metal
    Msl,
    /// DX12, shader model 5.1
    Hlsl,
    /// OpenGL ES 3.1
    Glsl,
}

fn parse_constant(text: &str) -> Result<(String, f64), String> {
    let pair = text.split_once('=').and_then(|(name, value)| Some((name.to_string(), value.parse::<f64>().ok()?)));
    pair.filter(|(_, value)| value.is_finite()).ok_or_else(|| "give NAME=VALUE, e.g. DEPTH=8".into())
}

/// Runs `impasto shaders`.
pub(crate) fn run(arguments: &Shaders) -> Result<Outcome> {
    let Some(name) = &arguments.kernel else { return list() };
    let kernel = KERNELS.iter().find(|kernel| kernel.name == name).ok_or_else(|| Error::Config {
        option: "kernel",
        what: format!("there is no `{name}`"),
        hint: "`impasto shaders` lists them".into(),
    })?;
    let shown = show(kernel, arguments)?;
    match &arguments.output {
        Some(path) => {
            write_file(path, &shown, arguments.overwrite)?;
            note!("wrote {}", path.display());
        }
        None if arguments.lang == LanguageName::Spirv => {
            return Err(Error::Config {
                option: "output",
                what: "SPIR-V is binary".into(),
                hint: "give a file with --output, or --lang spirv-text".into(),
            });
        }
        None => out!("{}", String::from_utf8_lossy(&shown).trim_end()),
    }
    Ok(Outcome::Done)
}

fn show(kernel: &'static Kernel, arguments: &Shaders) -> Result<Vec<u8>> {
    let language = match arguments.lang {
        LanguageName::Source => return Ok(kernel.source.as_bytes().to_vec()),
        LanguageName::Wgsl => Some(Language::Wgsl),
        LanguageName::Msl => Some(Language::Msl),
        LanguageName::Hlsl => Some(Language::Hlsl),
        LanguageName::Glsl => Some(Language::Glsl),
        LanguageName::Spirv | LanguageName::SpirvText => None,
    };
    let refuse = |what: String| Error::Kernel { kernel: kernel.name.into(), what };
    let reflection = kernel.reflect()?;
    let known = || reflection.module.overrides.iter().filter_map(|(_, constant)| constant.name.as_deref());
    if let Some((name, _)) = arguments.set.iter().find(|(name, _)| known().all(|known| known != name)) {
        let names: Vec<&str> = known().collect();
        return Err(Error::Config {
            option: "set",
            what: format!("{} has no override `{name}`", kernel.name),
            hint: if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(" ")) },
        });
    }
    let constants: Vec<(&str, f64)> = arguments.set.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let (module, info) = resolved(&reflection.module, &reflection.info, &constants).map_err(refuse)?;
    if let Some(language) = language {
        return Ok(text(language, kernel.name, &module, &info).map_err(refuse)?.into_bytes());
    }
    let words = spirv(kernel.name, &module, &info).map_err(refuse)?;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    if arguments.lang == LanguageName::SpirvText { disassembled(kernel.name, &bytes) } else { Ok(bytes) }
}

/// Through the SPIR-V tools, which Vulkan's SDKs and most distributions have.
fn disassembled(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let fail = |what: String| Error::Config {
        option: "lang",
        what: format!("spirv-text of {name}: {what}"),
        hint: "install the SPIR-V tools (package spirv-tools), or take --lang spirv".into(),
    };
    let file = tempfile::NamedTempFile::new().map_err(|error| fail(error.to_string()))?;
    std::fs::write(file.path(), bytes).map_err(|error| fail(error.to_string()))?;
    let run = Command::new("spirv-dis").arg(file.path()).output();
    let output = run.map_err(|error| fail(format!("spirv-dis does not run: {error}")))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(fail(String::from_utf8_lossy(&output.stderr).trim().to_string())),
    }
}

/// Every kernel with what it binds and needs, and the languages that cannot express it.
fn list() -> Result<Outcome> {
    out!(
        "{:24} {:>7} {:>8} {:>9} {:>8}  {:16} bindings",
        "kernel",
        "threads",
        "memory",
        "registers",
        "flop/B",
        "languages"
    );
    for kernel in KERNELS {
        let reflection = kernel.reflect()?;
        let refuse = |what: String| Error::Kernel { kernel: kernel.name.into(), what };
        let (module, info) = resolved(&reflection.module, &reflection.info, &[]).map_err(refuse)?;
        let (threads, memory) = workgroup(&module);
        let texts = [("msl", Language::Msl), ("hlsl", Language::Hlsl), ("glsl", Language::Glsl)];
        let mut languages: Vec<&str> = texts
            .iter()
            .filter(|(_, language)| text(*language, kernel.name, &module, &info).is_ok())
            .map(|(name, _)| *name)
            .collect();
        if spirv(kernel.name, &module, &info).is_ok() {
            languages.insert(0, "spirv");
        }
        let languages = if languages.len() == 4 { "all".into() } else { languages.join(" ") };
        let bindings = kernel.bindings.iter().map(|binding| {
            let kind = if binding.scalar == Scalar::F32 { "f32" } else { "u32" };
            format!("{}[{}]:{kind}", binding.name, binding.shape.replace(' ', ","))
        });
        out!(
            "{:24} {threads:>7} {memory:>7}B {:>9} {:>8}  {languages:16} {}",
            kernel.name,
            registers(&module, &info),
            intensity(kernel.name).map_or("-".into(), |ratio| format!("{ratio:.2}")),
            bindings.collect::<Vec<_>>().join(" ")
        );
    }
    out!("threads and memory of a workgroup; registers: estimate of the 32-bit scalars that a thread holds at once;");
    out!(
        "flop/B: operations per byte moved at least, at 56x56 pixels and 256 channels; overrides as the shaders set them"
    );
    Ok(Outcome::Done)
}

fn intensity(kernel: &str) -> Option<f64> {
    let (_, recording) = alone(kernel, USUAL).ok()?;
    recording.commands.iter().find_map(|command| match command {
        Recorded::Dispatch(dispatch) => Some(dispatch.flops as f64 / dispatch.bytes.max(1) as f64),
        Recorded::Clear(_) => None,
    })
}
