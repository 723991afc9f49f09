//! `--config FILE.toml`: options from a file, and presets written as such a file.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches};
use impasto::error::{Error, Result};
use impasto::transfer::presets::{self, PRESETS, Preset};
use impasto::transfer::{Adam, Config, Init, Lbfgs, Optimizer, Size};
use toml::de::{DeTable, DeValue};

use super::args::{self, Arguments, Options};
use super::idle;
use super::names::{
    AdamFormName, ConvolutionName, EdgeName, OptimizerName, OrientationName, PoolingName, PrecisionName, StyleLossName,
    TotalVariationName, typed,
};

/// Options that a file may not set: another file, what only tests use, and what is said of one run only.
const NOT_IN_A_FILE: [&str; 3] = ["config", "fail-allocation", "resume"];

/// Options that leave nothing of others: where the first is typed, the others of a file are not meant. (A total variation's
/// form, only where its weight is typed as 0.)
const MOOT: [(&str, &[&str]); 7] = [
    ("iterations", &["first_iterations"]),
    ("tv_weight", &["tv"]),
    ("original_colors", &["match_histogram"]),
    ("match_histogram", &["original_colors"]),
    ("style_size", &["style_scale"]),
    ("style_scale", &["style_size"]),
    (
        "optimizer",
        &[
            "learning_rate",
            "learning_rate_decay",
            "adam_beta1",
            "adam_beta2",
            "adam_epsilon",
            "adam_form",
            "keep_moments",
            "clamp",
            "lbfgs_history",
            "normalize_gradients",
        ],
    ),
];

/// The arguments of a command line. A file that they name gives the options that they do not.
pub(crate) fn arguments(line: impl IntoIterator<Item = OsString>) -> Result<Arguments> {
    let mut given: Vec<OsString> = line.into_iter().collect();
    let mut matches = Arguments::command().get_matches_from(&given);
    let mut from_file = Vec::new();
    if let Some((name, options)) = matches.subcommand() {
        idle::refuse(name, options)?;
    }
    if let Some((name, options)) = matches.subcommand()
        && let Ok(Some(path)) = options.try_get_one::<PathBuf>("config")
    {
        let typed = |id: &str| options.value_source(id) == Some(ValueSource::CommandLine);
        let no_variation = options.try_get_one::<f32>("tv_weight").ok().flatten() == Some(&0.0);
        let moot = |setting: &Setting| {
            let of = |(by, moot): &(&str, &[&str])| {
                typed(by) && (*by != "tv_weight" || no_variation) && moot.contains(&setting.id.as_str())
            };
            MOOT.iter().any(of)
        };
        let settings = read(path)?.into_iter().filter(|setting| !typed(&setting.id) && !moot(setting));
        from_file = settings.map(|setting| setting.argument).collect();
        let at = given.iter().position(|argument| argument == name).map_or(given.len(), |at| at + 1);
        given.splice(at..at, from_file.iter().map(OsString::from));
        matches = Arguments::command().get_matches_from(&given);
    }
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match &mut arguments.command {
        args::Command::Stylize(stylize) => stylize.options.from_file = from_file,
        args::Command::Grid(grid) => grid.options.from_file = from_file,
        args::Command::Demo(demo) => demo.options.from_file = from_file,
        args::Command::Plan(plan) => plan.options.from_file = from_file,
        args::Command::Profile(profile) => profile.options.from_file = from_file,
        _ => {}
    }
    Ok(arguments)
}

/// One line of a file as an argument.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The field of [`Options`] that it sets.
    pub(crate) id: String,
    pub(crate) argument: String,
}

const AS_TAKEN: &str = "give what the option takes: see `impasto stylize --help`";

impl Setting {
    fn new(option: &clap::Arg, argument: String) -> Setting {
        Setting { id: option.get_id().to_string(), argument }
    }
}

fn refused(what: String, hint: &str) -> Error {
    Error::Config { option: "config", what, hint: hint.into() }
}

/// Reads a file, each line checked by itself, so that an error names it.
fn read(path: &Path) -> Result<Vec<Setting>> {
    let show = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refused(format!("{show}: no such file"), "check the path"),
        _ => refused(format!("{show}: cannot be read: {error}"), "give a text file of lines key = value"),
    })?;
    let place = |span: Range<usize>| {
        let before = text.get(..span.start).unwrap_or(&text);
        format!("{show}:{}", before.matches('\n').count() + 1)
    };
    let table = DeTable::parse(&text).map_err(|error| {
        let what = format!("{}: {}", place(error.span().unwrap_or_default()), error.message().trim());
        refused(what, "write lines key = value, as `impasto presets --show draft` prints them")
    })?;
    let command = Options::augment_args(Command::new("config"));
    let settings = table.get_ref().iter().map(|(key, value)| {
        let fail = |what: String, hint: &str| Err(refused(format!("{}: {what}", place(key.span())), hint));
        let name: &str = key.get_ref();
        let named = |argument: &&clap::Arg| argument.get_long() == Some(name) && !NOT_IN_A_FILE.contains(&name);
        let Some(option) = command.get_arguments().find(named) else {
            return fail(
                format!("there is no option `{name}`"),
                "keys are the options' names without dashes before them: see `impasto stylize --help`",
            );
        };
        let flag = matches!(option.get_action(), ArgAction::SetTrue);
        let repeated = matches!(option.get_action(), ArgAction::Append);
        let texts = match (flag, value.get_ref()) {
            (true, DeValue::Boolean(true)) => return Ok(vec![Setting::new(option, format!("--{name}"))]),
            (true, DeValue::Boolean(false)) => return Ok(Vec::new()),
            (true, _) => return fail(format!("{name} is either true or false"), "write true or false"),
            (false, DeValue::Array(values)) if repeated => values.iter().map(|value| plain(value.get_ref())).collect(),
            (false, value) => plain(value).map(|text| vec![text]),
        };
        let Some(texts): Option<Vec<String>> = texts else {
            return fail(format!("{name} takes no such value"), "give a number, a text, or a list of them");
        };
        let arguments: Vec<String> = texts.into_iter().map(|text| format!("--{name}={text}")).collect();
        if let Err(first) = checked(&command, &arguments) {
            return fail(first, AS_TAKEN);
        }
        Ok(arguments.into_iter().map(|argument| Setting::new(option, argument)).collect())
    });
    Ok(settings.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// One option with its value, by the rules of a file's lines.
///
/// # Errors
/// What is wrong with it, and a hint.
pub(crate) fn setting(name: &str, value: &str) -> Result<Setting, (String, &'static str)> {
    let command = Options::augment_args(Command::new("config"));
    let named = |argument: &&clap::Arg| argument.get_long() == Some(name) && !NOT_IN_A_FILE.contains(&name);
    let Some(option) = command.get_arguments().find(named) else {
        return Err((format!("there is no option `{name}`"), "see `impasto stylize --help`"));
    };
    let argument = format!("--{name}={value}");
    checked(&command, std::slice::from_ref(&argument)).map_err(|first| (first, AS_TAKEN))?;
    Ok(Setting::new(option, argument))
}

/// Has the parser look at an option by itself; the first line of what it says against it.
fn checked(command: &Command, arguments: &[String]) -> Result<(), String> {
    command
        .clone()
        .try_get_matches_from(std::iter::once("config").chain(arguments.iter().map(String::as_str)))
        .map(drop)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string())
}

/// A value as it would be typed; lists with commas.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_string()),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(|value| plain(value.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// A preset as a file that `--config` reads.
pub(crate) fn show(name: &str) -> Result<String> {
    let preset = presets::find(name).ok_or_else(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let hint = format!("choose one of {}", names.join(", "));
        Error::Config { option: "show", what: format!("there is no preset `{name}`"), hint }
    })?;
    Ok(written(preset))
}

fn written(preset: &Preset) -> String {
    let mut text = format!("# {}\npreset = \"{}\"\n\n", preset.summary, preset.name);
    for (key, value) in settings(&(preset.config)()) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text
}

/// Every setting that has an option, by its name, as TOML. What is left out is chosen by the program.
fn settings(config: &Config) -> Vec<(&'static str, String)> {
    // Each field by name: a new one has to be written, too.
    let Config {
        size,
        style_size,
        style_scale,
        style_blend_weights,
        content_layers,
        style_layers,
        content_weight,
        style_weight,
        style_loss,
        style_layer_weight_exp,
        tv_weight,
        tv,
        pooling,
        edge,
        pooling_scale,
        precision,
        convolution,
        iterations,
        first_iterations,
        min_scale,
        scale_factor,
        keep_moments,
        optimizer,
        adam: Adam { learning_rate, beta1, beta2, epsilon, form },
        lbfgs: Lbfgs { learning_rate: lbfgs_rate, history },
        learning_rate_decay,
        clamp,
        ema,
        normalize_gradients,
        init,
        init_noise,
        seed,
        mean,
        orientation,
        tile,
        ways: _,
        memory,
        max_buffer: _,
    } = config;
    let quoted = |text: String| format!("{text:?}");
    let size_of = |size: &Size| match size {
        Size::Longest(side) => side.to_string(),
        Size::Exact(width, height) => quoted(format!("{width}x{height}")),
        Size::Native => quoted("native".into()),
    };
    let layers = |layers: &[(impasto::net::vgg19::Tap, f32)]| {
        let one = |(tap, weight): &(_, f32)| match weight {
            1.0 => quoted(format!("{tap}")),
            weight => quoted(format!("{tap}={weight}")),
        };
        format!("[{}]", layers.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let numbers = |numbers: &[f32]| match numbers {
        [one] => one.to_string(),
        several => format!("[{}]", several.iter().map(f32::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut lines = vec![
        ("size", size_of(size)),
        ("style-size", style_size.as_ref().map_or(quoted("auto".into()), size_of)),
        ("content-layers", layers(content_layers)),
        ("content-weight", content_weight.to_string()),
        ("style-layers", layers(style_layers)),
        ("style-weight", style_weight.to_string()),
        ("style-layer-weight-exp", style_layer_weight_exp.to_string()),
        ("style-loss", quoted(typed(StyleLossName::from(*style_loss)))),
        ("tv-weight", tv_weight.to_string()),
        ("pooling", quoted(typed(PoolingName::from(*pooling)))),
        ("pooling-scale", pooling_scale.to_string()),
        ("edge", quoted(typed(EdgeName::from(*edge)))),
        ("min-scale", min_scale.map_or(quoted("none".into()), |side| side.to_string())),
        ("scale-factor", scale_factor.to_string()),
        ("iterations", iterations.to_string()),
    ];
    // Options that would have no effect are refused.
    if style_size.is_none() {
        lines.push(("style-scale", numbers(style_scale)));
    }
    if !style_blend_weights.is_empty() {
        lines.push(("style-blend-weights", numbers(style_blend_weights)));
    }
    if *tv_weight > 0.0 {
        lines.push(("tv", quoted(typed(TotalVariationName::from(*tv)))));
    }
    lines.extend(first_iterations.map(|number| ("first-iterations", number.to_string())));
    lines.push(("optimizer", quoted(typed(OptimizerName::from(*optimizer)))));
    lines.extend(match optimizer {
        Optimizer::Adam => vec![
            ("learning-rate", learning_rate.to_string()),
            ("learning-rate-decay", learning_rate_decay.to_string()),
            ("adam-beta1", beta1.to_string()),
            ("adam-beta2", beta2.to_string()),
            ("adam-epsilon", epsilon.to_string()),
            ("adam-form", quoted(typed(AdamFormName::from(*form)))),
            ("keep-moments", keep_moments.to_string()),
            ("clamp", clamp.to_string()),
            ("normalize-gradients", normalize_gradients.to_string()),
        ],
        Optimizer::Lbfgs => {
            vec![("learning-rate", lbfgs_rate.to_string()), ("lbfgs-history", history.to_string())]
        }
    });
    lines.push(("ema", ema.to_string()));
    lines.extend(match init {
        Init::Content => Some(("init", quoted("content".into()))),
        Init::Noise => Some(("init", quoted("noise".into()))),
        Init::StyleStats => Some(("init", quoted("style-stats".into()))),
        // A file that this program was given: it alone knows its name.
        Init::Picture(_) | Init::Values { .. } => None,
    });
    lines.push(("init-noise", init_noise.to_string()));
    lines.push(("seed", seed.to_string()));
    lines.extend(mean.map(|[r, g, b]| ("mean", format!("[{r}, {g}, {b}]"))));
    lines.push(("kernel-orientation", quoted(typed(OrientationName::from(*orientation)))));
    lines.push(("precision", quoted(typed(PrecisionName::from(*precision)))));
    lines.push(("convolution", quoted(typed(ConvolutionName::from(*convolution)))));
    lines.push(("tile", tile.map_or(quoted("auto".into()), |edge| edge.to_string())));
    lines.extend(memory.map(|bytes| ("memory", bytes.to_string())));
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_preset_that_is_shown_and_read_again_is_the_preset() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("preset.toml");
        for preset in PRESETS {
            // Without the line that names it, every setting has to come from the others.
            let text = written(preset).replace(&format!("preset = \"{}\"\n", preset.name), "");
            std::fs::write(&path, text).unwrap();
            let arguments = read(&path).unwrap().into_iter().map(|setting| setting.argument);
            let command = Options::augment_args(Command::new("config"));
            let matches = command.get_matches_from(["config".to_string()].into_iter().chain(arguments));
            let options = Options::from_arg_matches(&matches).unwrap();
            for base in PRESETS {
                let read = options.configure((base.config)()).unwrap();
                let config = (preset.config)();
                // A preset without a colour of its own does not take away another's; what has no weight has no form.
                let tv = if config.tv_weight > 0.0 { config.tv } else { read.tv };
                let mut config = Config { mean: config.mean.or(read.mean), tv, ..config };
                // Nor has an optimiser that is not at work settings.
                match config.optimizer {
                    Optimizer::Adam => config.lbfgs = read.lbfgs,
                    Optimizer::Lbfgs => {
                        (config.adam, config.keep_moments) = (read.adam, read.keep_moments);
                    }
                }
                assert_eq!(read, config, "{} over {}", preset.name, base.name);
            }
        }
    }
}
