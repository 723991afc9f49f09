//! Arguments. Every setting is an `Option` over the preset's configuration, which is where defaults live.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use impasto::error::{Error, Result};
use impasto::net::vgg19::Tap;
use impasto::picture::read_npy;
use impasto::transfer::presets::{self, Preset};
use impasto::transfer::{Config, Init, Size};

use super::batch::BatchOptions;
use super::checkpoint::CheckpointOptions;
use super::device::Tuning;
use super::grid::Grid;
use super::idle::hidden;
use super::names::{
    ConvolutionName, EdgeName, Iterations, OrientationName, PoolingName, PrecisionName, StyleLossName,
    TotalVariationName,
};
use super::optimizer::OptimizerOptions;
use super::pictures::PictureOptions;
use super::plan::{PlanArguments, parse_memory};
use super::profile::ProfileArguments;
use super::record::Rerun;
use super::shaders::Shaders;
use super::styles::StyleOptions;
use super::tune::Tune;
use super::weights::Weights;

/// Neural style transfer on any GPU, or on none.
#[derive(Debug, Parser)]
#[command(name = "impasto", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (of several pictures: at least one), 2 wrong usage, \
3 bad input file, 4 no usable device or out of memory, 130 interrupted (the picture so far is saved).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Paint a picture in the style of another
    Stylize(Stylize),
    /// Paint the bundled pictures, with no file needed
    Demo(Demo),
    /// Paint a picture with several values of one or two options, side by side on a labelled sheet
    Grid(Grid),
    /// Make a result again, from what it says about how it was made
    Rerun(Rerun),
    /// Forecast the memory and time of a run; takes the options of `stylize`, writes nothing
    #[command(mut_args(|argument| hidden("plan", argument)))]
    Plan(PlanArguments),
    /// Time every launch of an iteration, or one kernel alone; takes the options of `stylize`
    #[command(mut_args(|argument| hidden("profile", argument)))]
    Profile(ProfileArguments),
    /// List the kernels, or show one as WGSL, SPIR-V, MSL, HLSL or GLSL
    Shaders(Shaders),
    /// Check and time the kernels on a GPU, and keep what is fastest for later runs
    Tune(Tune),
    /// List adapters and say which one `auto` takes
    Devices,
    /// List the presets
    Presets {
        /// Print this one's settings, as a file for --config
        #[arg(long, value_name = "NAME")]
        show: Option<String>,
    },
    /// Get VGG-19, and look after the weights that are here
    #[command(subcommand)]
    Weights(Weights),
    /// Print completions of commands and options for a shell
    Completions {
        /// Whose: `impasto completions bash > ~/.local/share/bash-completion/completions/impasto`
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Stylize {
    /// Picture to paint (PNG, JPEG, WebP, TIFF). Several, folders, or patterns like '*.jpg' are painted one after the
    /// other
    #[arg(required = true)]
    pub(crate) content: Vec<PathBuf>,
    /// Picture whose style is taken, or a folder of them; several are blended
    #[arg(long, short, required_unless_present = "styles")]
    pub(crate) style: Vec<PathBuf>,
    /// Where to write the result; its extension chooses the format. For several pictures the folder of the results, made
    /// if it is missing
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) batch: BatchOptions,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Where to write the result; OUT_sheet.EXT shows content, style and result
    #[arg(long, short, default_value = "demo.png")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// Named settings that the other options start from (see `impasto presets`)
    #[arg(long)]
    pub(crate) preset: Option<String>,
    /// File of options, one a line: `size = 512`; an option that is given here goes before the file's, the file's before
    /// the preset's
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) config: Option<PathBuf>,
    /// The arguments that the file came to.
    #[arg(skip)]
    pub(crate) from_file: Vec<String>,
    /// `auto` (VGG-19, downloaded once; the built-in network if that fails), `builtin`, a name in `impasto weights list`, or
    /// a file: imagenet-vgg-verydeep-19.mat or VGG-19 as safetensors
    #[arg(long, value_name = "auto|builtin|NAME|FILE", default_value = "auto")]
    pub(crate) weights: String,
    /// Do not use the network (so does IMPASTO_OFFLINE=1)
    #[arg(long)]
    pub(crate) offline: bool,
    /// `auto` (discrete, then integrated GPU, then the CPU engine), `cpu`, `gpu` (any, software too), a name, or an index
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// Take the kernels that are supposed to suit the GPU, and time none on it (so does IMPASTO_NO_TUNE=1)
    #[arg(long)]
    pub(crate) no_tune: bool,
    /// Threads of the CPU engine; one per core if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    pub(crate) threads: Option<u16>,
    /// Size of the result: longest side, WxH, or `native`
    #[arg(long, value_parser = parse_size, allow_negative_numbers = true)]
    size: Option<Size>,
    #[command(flatten)]
    pub(crate) styles: StyleOptions,
    /// Coarse to fine: start at this longest side or the next above; `none` for one scale
    #[arg(long, value_parser = parse_min_scale, value_name = "N|none", allow_negative_numbers = true)]
    min_scale: Option<MinScale>,
    /// Coarse to fine: size of a scale relative to the one before
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    scale_factor: Option<f32>,
    /// Start: `content`, `noise`, `style-stats` (noise in the styles' colours), a picture, or a .npy of float32 [H, W, 3]
    /// with the mean subtracted
    #[arg(long)]
    init: Option<String>,
    /// How much of the start is noise, 0 to 1: (1 - R) of --init, and R of noise with a standard deviation of 64 of 255
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    init_noise: Option<f32>,
    /// Seed of the noise
    #[arg(long, allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Number of iterations at each scale; of two, as in `1000,500`, the first is for the first scale
    #[arg(long, short = 'n', value_name = "N|FIRST,N", allow_negative_numbers = true)]
    iterations: Option<Iterations>,
    /// Number of iterations at the first scale, if it is to differ
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    first_iterations: Option<u32>,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    /// Content layers, e.g. relu2_2,relu3_1=0.5
    #[arg(long, value_parser = parse_layers, value_name = "LAYER[=WEIGHT],…")]
    content_layers: Option<Layers>,
    /// Style layers, e.g. relu1_1,relu2_1=0.5
    #[arg(long, value_parser = parse_layers, value_name = "LAYER[=WEIGHT],…")]
    style_layers: Option<Layers>,
    /// Multiplies every content layer's weight
    #[arg(long, allow_negative_numbers = true)]
    content_weight: Option<f32>,
    /// Multiplies every style layer's weight
    #[arg(long, allow_negative_numbers = true)]
    style_weight: Option<f32>,
    /// Weight of a style layer relative to the one above it, as anishathalye has it; the sum of the weights stays
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    style_layer_weight_exp: Option<f32>,
    /// How style and content are compared: `article`; `classic` (jcjohnson's and its descendants'); `gatys`; `scaled-mse`
    /// and `wasserstein` (crowsonkb's)
    #[arg(long)]
    style_loss: Option<StyleLossName>,
    /// Weight of the total variation (smoothness); 0 switches it off
    #[arg(long, allow_negative_numbers = true)]
    tv_weight: Option<f32>,
    /// Total variation: `l2` (anishathalye's), `l1` (neural-style-pt's), `nine-point` (crowsonkb's)
    #[arg(long)]
    tv: Option<TotalVariationName>,
    /// Pooling between the blocks
    #[arg(long)]
    pooling: Option<PoolingName>,
    /// What the first convolution sees beyond the picture's edge: the mean colour, or the outermost pixels repeated
    #[arg(long)]
    edge: Option<EdgeName>,
    /// Factor on what pooling gives; crowsonkb has 2 for avg and 0.78 for l2
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pooling_scale: Option<f32>,
    /// Mean colour that is subtracted: `vgg`, one number, or R,G,B
    #[arg(long, value_parser = parse_mean, value_name = "vgg|N|R,G,B", allow_hyphen_values = true)]
    mean: Option<Mean>,
    /// Orientation of the kernels: as trained, or transposed as the article loads them
    #[arg(long)]
    kernel_orientation: Option<OrientationName>,
    /// What is stored between convolutions: `f32`; `f16`, which takes about half the memory and gives nearly the same
    /// result; `auto`, which is f32 so far
    #[arg(long)]
    precision: Option<PrecisionName>,
    /// How convolutions are computed: `auto` (what suits the device), `direct` (on a GPU the closest rounding), `winograd`
    /// (a quarter of the multiplications, where there are 64 channels or more; not with --precision f16); the CPU engine is
    /// fastest with `auto`
    #[arg(long)]
    convolution: Option<ConvolutionName>,
    /// Edge of the tiles in pixels, or `auto`: the whole picture if the memory holds it, else the largest tiles that do;
    /// the result is the same up to rounding
    #[arg(long, value_parser = parse_tile, value_name = "N|auto", allow_negative_numbers = true)]
    tile: Option<Tile>,
    /// Memory that the run may take on its device, e.g. 2GiB or 512MiB; if not given, 2GiB on a GPU, half of what is
    /// free for the CPU engine
    #[arg(long, value_parser = parse_memory, value_name = "SIZE", allow_negative_numbers = true)]
    memory: Option<u64>,
    #[command(flatten)]
    pub(crate) pictures: PictureOptions,
    /// Save OUT_N.EXT every N iterations (0: never)
    #[arg(long, value_name = "N")]
    pub(crate) save_every: Option<u32>,
    /// Print the loss every N iterations when there is no progress bar
    #[arg(long, value_name = "N")]
    pub(crate) print_every: Option<u32>,
    /// Write one JSON object per iteration: iter, loss and every term
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) log: Option<PathBuf>,
    /// Draw the loss and its terms over the iterations, on a logarithmic scale, as .svg or .png
    #[arg(long, value_name = "FILE.svg|FILE.png")]
    pub(crate) plot: Option<PathBuf>,
    /// Show the picture in the terminal while it is painted, above the progress bar
    #[arg(long)]
    pub(crate) preview: bool,
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointOptions,
    /// Replace existing files
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print errors only
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Has the N-th buffer find no memory: for tests
    #[arg(long, value_name = "N", default_value_t = 0, hide = true)]
    pub(crate) fail_allocation: u64,
    /// Print every launch of an iteration and stop
    #[arg(long)]
    pub(crate) dump_plan: bool,
}

/// A list of layers with weights; a type of its own, since clap takes `Vec` for a repeated option.
#[derive(Clone, Debug)]
struct Layers(Vec<(Tap, f32)>);

#[derive(Clone, Copy, Debug)]
struct Tile(Option<usize>);

#[derive(Clone, Copy, Debug)]
struct MinScale(Option<usize>);

#[derive(Clone, Copy, Debug)]
struct Mean(Option<[f32; 3]>);

pub(super) fn parse_size(text: &str) -> Result<Size, String> {
    let side = |side: &str| match side.parse::<usize>() {
        Ok(side) if (1..=65_535).contains(&side) => Ok(side),
        _ => Err("give the longest side as 512, exact sides as 640x480, or native".to_string()),
    };
    match text.split_once(['x', 'X']) {
        _ if text == "native" => Ok(Size::Native),
        Some((width, height)) => Ok(Size::Exact(side(width)?, side(height)?)),
        None => Ok(Size::Longest(side(text)?)),
    }
}

fn parse_min_scale(text: &str) -> Result<MinScale, String> {
    match text.parse() {
        _ if text == "none" => Ok(MinScale(None)),
        Ok(side) if (1..=65_535).contains(&side) => Ok(MinScale(Some(side))),
        _ => Err("give the longest side of the smallest scale, e.g. 128, or none".into()),
    }
}

fn parse_layers(text: &str) -> Result<Layers, String> {
    let mut layers = Vec::new();
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (name, weight) = item.split_once('=').unwrap_or((item, "1"));
        let tap: Tap = name.trim().parse().map_err(|_| {
            format!("no layer `{name}`: layers are relu1_1 relu1_2 relu2_1 relu2_2 relu3_1 … relu3_4 … relu5_4")
        })?;
        let weight = weight.trim().parse().map_err(|_| format!("`{weight}` is not a number, in `{item}`"))?;
        layers.push((tap, weight));
    }
    Ok(Layers(layers))
}

fn parse_mean(text: &str) -> Result<Mean, String> {
    if text == "vgg" {
        return Ok(Mean(Some([123.68, 116.779, 103.939])));
    }
    let values: Result<Vec<f32>, _> = text.split(',').map(|value| value.trim().parse()).collect();
    match values.as_deref() {
        Ok([grey]) => Ok(Mean(Some([*grey; 3]))),
        Ok([red, green, blue]) => Ok(Mean(Some([*red, *green, *blue]))),
        _ => Err("give vgg, one number as 128, or three as 123.68,116.779,103.939".into()),
    }
}

fn parse_tile(text: &str) -> Result<Tile, String> {
    match text.parse() {
        _ if text == "auto" => Ok(Tile(None)),
        // Below this the halos are most of the work.
        Ok(edge) if edge >= 32 => Ok(Tile(Some(edge))),
        _ => Err("give the edge of a tile in pixels, 32 or more, e.g. 512, or auto".into()),
    }
}

impl Options {
    /// The preset asked for, or else `usual`.
    pub(crate) fn preset(&self, usual: &str) -> Result<&'static Preset> {
        let name = self.preset.as_deref().unwrap_or(usual);
        presets::find(name).ok_or_else(|| Error::Config {
            option: "preset",
            what: format!("there is no preset `{name}`"),
            hint: "`impasto presets` lists them".into(),
        })
    }

    /// Whether kernels are chosen by what was measured.
    pub(crate) fn tuning(&self) -> Tuning {
        match () {
            // A test's fault is for the job.
            () if self.no_tune || self.fail_allocation > 0 => Tuning::Not,
            () if self.dump_plan => Tuning::Kept,
            () => Tuning::Now { quiet: self.quiet },
        }
    }

    /// The files that the options name for reading.
    pub(crate) fn input_files(&self) -> impl Iterator<Item = &Path> {
        let weights = Some(&self.weights).filter(|text| is_file(text, &["builtin", "auto", "vgg19"]));
        weights.into_iter().map(Path::new).chain(self.picture_files()).chain(self.config.as_deref())
    }

    /// Those of them that make the picture: what it starts from, and masks.
    pub(crate) fn picture_files(&self) -> impl Iterator<Item = &Path> {
        let init = self.init.as_ref().filter(|text| is_file(text, &INITS));
        init.into_iter().map(Path::new).chain(self.styles.files())
    }

    /// [`Options::picture_files`], to be put in other places.
    pub(crate) fn picture_files_mut(&mut self) -> impl Iterator<Item = &mut String> {
        self.init.as_mut().filter(|text| is_file(text, &INITS)).into_iter().chain(self.styles.files_mut())
    }

    /// Leaves of a run what bears on its result.
    pub(crate) fn repeat(&mut self, overwrite: bool, quiet: bool) {
        (self.overwrite, self.quiet, self.dump_plan) = (overwrite, quiet, false);
        (self.log, self.plot, self.save_every, self.preview) = (None, None, Some(0), false);
        self.checkpoint.forget();
    }

    /// `base` with every option given put over it, checked.
    pub(crate) fn configure(&self, base: Config) -> Result<Config> {
        let mut config = base;
        fn put<T: Clone>(target: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *target = value.clone();
            }
        }
        self.styles.configure(&mut config, self.size.is_some());
        put(&mut config.size, &self.size);
        put(&mut config.init_noise, &self.init_noise);
        put(&mut config.seed, &self.seed);
        if let Some(iterations) = self.iterations {
            // One number that a user gives is the number for every scale.
            (config.first_iterations, config.iterations) = iterations.beside(self.first_iterations)?;
        }
        put(&mut config.first_iterations, &self.first_iterations.map(Some));
        put(&mut config.min_scale, &self.min_scale.map(|side| side.0));
        put(&mut config.scale_factor, &self.scale_factor);
        put(&mut config.content_layers, &self.content_layers.as_ref().map(|layers| layers.0.clone()));
        put(&mut config.style_layers, &self.style_layers.as_ref().map(|layers| layers.0.clone()));
        put(&mut config.content_weight, &self.content_weight);
        put(&mut config.style_weight, &self.style_weight);
        put(&mut config.tv_weight, &self.tv_weight);
        put(&mut config.mean, &self.mean.map(|mean| mean.0));
        put(&mut config.memory, &self.memory.map(Some));
        put(&mut config.tile, &self.tile.map(|tile| tile.0));
        put(&mut config.style_layer_weight_exp, &self.style_layer_weight_exp);
        put(&mut config.style_loss, &self.style_loss.map(Into::into));
        put(&mut config.tv, &self.tv.map(Into::into));
        put(&mut config.pooling, &self.pooling.map(Into::into));
        put(&mut config.edge, &self.edge.map(Into::into));
        put(&mut config.precision, &self.precision.map(Into::into));
        put(&mut config.convolution, &self.convolution.map(Into::into));
        put(&mut config.pooling_scale, &self.pooling_scale);
        put(&mut config.orientation, &self.kernel_orientation.map(Into::into));
        self.optimizer.configure(&mut config)?;
        if let Some(init) = &self.init {
            config.init = parse_init(init, &self.pictures, self.quiet)?;
        }
        config.validate()?;
        self.pictures.validate()?;
        let useless =
            |option, what: &str, hint: &str| Err(Error::Config { option, what: what.into(), hint: hint.into() });
        if self.tv.is_some() && config.tv_weight == 0.0 {
            return useless("tv", "its weight is 0", "give --tv-weight as well");
        }
        self.styles.check(&config)?;
        Ok(config)
    }
}

/// What `--init` takes beside files.
const INITS: [&str; 3] = ["content", "noise", "style-stats"];

fn is_file(text: &str, words: &[&str]) -> bool {
    !words.contains(&text)
}

fn parse_init(text: &str, pictures: &PictureOptions, quiet: bool) -> Result<Init> {
    let path = Path::new(text);
    if text == "content" {
        return Ok(Init::Content);
    }
    if text == "noise" {
        return Ok(Init::Noise);
    }
    if text == "style-stats" {
        return Ok(Init::StyleStats);
    }
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("npy")) {
        return Ok(Init::Picture(pictures.read(path, quiet)?.picture));
    }
    let (shape, values) = read_npy(path)?;
    let wrong = |what: String| Error::Picture {
        path: path.into(),
        what,
        hint: "save a float32 array of shape [height, width, 3] with finite values".into(),
    };
    if values.iter().any(|value| !value.is_finite()) {
        return Err(wrong("holds NaN or infinity".into()));
    }
    match shape[..] {
        [height, width, 3] => Ok(Init::Values { height, width, values }),
        _ => Err(wrong(format!("has shape {shape:?}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_argument_tree_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_option_changes_a_preset() {
        for preset in presets::PRESETS {
            assert_eq!(Options::default().configure((preset.config)()).unwrap(), (preset.config)(), "{}", preset.name);
        }
    }

    #[test]
    fn sizes_layers_and_means_are_read() {
        assert_eq!(parse_size("512"), Ok(Size::Longest(512)));
        assert_eq!(parse_size("640x480"), Ok(Size::Exact(640, 480)));
        assert_eq!(parse_size("native"), Ok(Size::Native));
        for bad in ["", "0", "-1", "x", "640x", "x480", "99999", "1e3", "640x480x3"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        let layers = parse_layers("relu1_1,relu2_1=0.5").unwrap().0;
        assert_eq!(
            layers.iter().map(|(tap, w)| (tap.to_string(), *w)).collect::<Vec<_>>(),
            [("relu1_1".to_string(), 1.0), ("relu2_1".to_string(), 0.5)]
        );
        assert!(parse_layers("relu9_9").is_err());
        assert!(parse_layers("relu1_1=x").is_err());
        assert_eq!(parse_min_scale("none").unwrap().0, None);
        assert_eq!(parse_min_scale("128").unwrap().0, Some(128));
        assert!(["", "0", "-1", "65536", "x"].iter().all(|bad| parse_min_scale(bad).is_err()));
        assert_eq!(parse_mean("128").unwrap().0, Some([128.0; 3]));
        assert!(parse_mean("1,2").is_err());
    }
}
