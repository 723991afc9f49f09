//! `impasto grid`: a picture with several values of one or two options, side by side.

mod sheet;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use impasto::error::{Error, Result};
use impasto::picture::{Decoded, MAX_DECODED_BYTES, Picture, beside};
use impasto::transfer::Config;
use impasto::transfer::presets::{DEFAULT, Preset};

use self::sheet::{Cell, Layout};
use super::args::{Command, Options};
use super::batch::Tally;
use super::config_file::{self, setting};
use super::files::{Claims, Outputs, output_error};
use super::record::Record;
use super::styles::{Masks, style_files};
use super::stylize::Job;
use super::workshop::Workshop;
use super::{Outcome, line, note, one_line};

/// Values that an axis has at most.
const LONGEST: usize = 100;
/// Options that a picture does not show.
const NO_SETTING: [&str; 17] = [
    "quality",
    "bit-depth",
    "max-pixels",
    "offline",
    "device",
    "no-tune",
    "threads",
    "save-every",
    "print-every",
    "log",
    "plot",
    "preview",
    "checkpoint-every",
    "no-checkpoint",
    "overwrite",
    "quiet",
    "dump-plan",
];
/// What only a grid has, and the record of one of its pictures has not.
const OWN: [&str; 4] = ["rows", "columns", "cell", "keep"];

#[derive(Args, Debug)]
pub(crate) struct Grid {
    /// Picture to paint
    content: PathBuf,
    /// Picture whose style is taken, or a folder of them; several are blended
    #[arg(long, short, required = true)]
    style: Vec<PathBuf>,
    /// Where to write the sheet; its extension chooses the format
    #[arg(long, short)]
    output: PathBuf,
    /// An option of `stylize` and its value in each row: style-weight=1,10,100; values that hold commas are parted by
    /// semicolons
    #[arg(long, value_name = "OPTION=VALUE,…", value_parser = Axis::parse, required_unless_present = "columns")]
    rows: Option<Axis>,
    /// The same for the columns
    #[arg(long, value_name = "OPTION=VALUE,…", value_parser = Axis::parse)]
    columns: Option<Axis>,
    /// Longest side of a picture on the sheet; the results' own if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(16..))]
    cell: Option<u16>,
    /// Keep the pictures themselves in this folder, made if it is missing
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// An option and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    option: String,
    values: Vec<String>,
}

impl Axis {
    fn parse(text: &str) -> Result<Axis, String> {
        let (option, values) = text.split_once('=').ok_or("write it as style-weight=1,10,100")?;
        let option = option.trim_start_matches('-');
        let part = if values.contains(';') { ';' } else { ',' };
        let values: Vec<String> = values.split(part).map(|value| value.trim().to_string()).collect();
        if NO_SETTING.contains(&option) {
            return Err(format!("`{option}` changes nothing that a picture shows"));
        }
        if let Some(at) = (1..values.len()).find(|at| values[..*at].contains(&values[*at])) {
            return Err(format!("`{}` is there twice", values[at]));
        }
        if values.len() > LONGEST {
            return Err(format!("{} values, at most {LONGEST} have room", values.len()));
        }
        for value in &values {
            setting(option, value).map_err(|(what, hint)| format!("{what}; {hint}"))?;
        }
        Ok(Axis { option: option.into(), values })
    }

    fn arguments(&self) -> Vec<(String, String)> {
        let argument = |value: &String| (format!("{}\n={value}", self.option), format!("--{}={value}", self.option));
        self.values.iter().map(argument).collect()
    }
}

/// One picture of the grid.
#[derive(Debug)]
struct Square {
    /// Where it stands on the sheet, counted row by row.
    index: usize,
    /// The settings that it has for its own, as arguments.
    added: Vec<String>,
    options: Options,
    preset: &'static Preset,
    config: Config,
    masks: Arc<Masks>,
    output: PathBuf,
}

impl Square {
    fn name(&self) -> String {
        one_line(&self.added.iter().map(|argument| argument.trim_start_matches('-')).collect::<Vec<_>>().join(" "))
    }
}

/// Runs `impasto grid`.
pub(crate) fn run(arguments: &Grid) -> Result<Outcome> {
    refuse_what_is_for_one_run(&arguments.options)?;
    let labelled = |axis: &Option<Axis>| axis.as_ref().map_or(Vec::new(), Axis::arguments);
    let (rows, columns) = (labelled(&arguments.rows), labelled(&arguments.columns));
    if let (Some(rows), Some(columns)) = (&arguments.rows, &arguments.columns)
        && rows.option == columns.option
    {
        let what = format!("{} is what the rows have already", columns.option);
        return Err(Error::Config { option: "columns", what, hint: "give the columns another option".into() });
    }
    let scratch = tempfile::tempdir()
        .map_err(|error| output_error(&std::env::temp_dir(), &error.to_string(), "set TMPDIR to a writable folder"))?;
    let folder = arguments.keep.as_deref().unwrap_or(scratch.path());
    let squares = squares([&rows, &columns], folder)?;
    let read = |path: &PathBuf| arguments.options.pictures.read(path, arguments.options.quiet);
    let content = read(&arguments.content)?;
    let style_files = style_files(&arguments.style)?;
    let styles = Arc::new(style_files.iter().map(|path| Ok(read(path)?.picture)).collect::<Result<Vec<_>>>()?);
    for square in &squares {
        square.masks.inputs(&content.picture, &styles).check(&square.config)?;
    }
    let labels = [rows, columns].map(|axis| axis.into_iter().map(|(label, _)| label).collect::<Vec<_>>());
    let layout = layout(arguments, &labels, &squares, &content.picture)?;
    arguments.options.pictures.check(&arguments.output)?;
    check_outputs(arguments, &squares)?;
    if let Some(keep) = &arguments.keep {
        std::fs::create_dir_all(keep)
            .map_err(|error| output_error(keep, &format!("cannot be made: {error}"), "choose another folder"))?;
    }
    let Some((outcome, cells)) = paint(arguments, squares, (&content, &styles, &style_files))? else {
        return Ok(Outcome::Interrupted);
    };
    let drawn = layout.draw(&labels[0], &labels[1], &cells);
    let software = ("Software".to_string(), format!("impasto {}", env!("CARGO_PKG_VERSION")));
    let to = (arguments.output.as_path(), arguments.options.overwrite);
    arguments.options.pictures.save_sheet(&drawn, to, &[software])?;
    if !arguments.options.quiet {
        note!("wrote {}", arguments.output.display());
    }
    Ok(outcome)
}

/// Options that the pictures of a grid cannot all have.
fn refuse_what_is_for_one_run(options: &Options) -> Result<()> {
    let given = [
        ("log", options.log.is_some()),
        ("plot", options.plot.is_some()),
        ("save-every", options.save_every.is_some_and(|every| every > 0)),
        ("resume", options.checkpoint.resumes()),
        ("dump-plan", options.dump_plan),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Error::Config {
            option,
            what: "is for one picture, and a grid makes several".into(),
            hint: "leave it out; `impasto stylize` makes one of them by itself".into(),
        }),
        None => Ok(()),
    }
}

/// Every picture of the grid, row by row, its options read as if they had been typed.
fn squares([rows, columns]: [&[(String, String)]; 2], folder: &Path) -> Result<Vec<Square>> {
    let one_each = |axis: &[(String, String)]| match axis {
        [] => vec![None],
        axis => axis.iter().map(|(_, argument)| Some(argument.clone())).collect(),
    };
    let mut squares = Vec::new();
    for row in one_each(rows) {
        for column in one_each(columns) {
            let added: Vec<String> = row.iter().chain(&column).cloned().collect();
            let mut line: Vec<OsString> = std::env::args_os().collect();
            let after = line.len().min(2);
            line.splice(after..after, added.iter().map(OsString::from));
            let Command::Grid(Grid { mut options, .. }) = config_file::arguments(line)?.command else {
                return Err(Error::Kernel { kernel: "grid".into(), what: "is another command".into() });
            };
            options.checkpoint.forget();
            options.save_every = Some(0);
            let preset = options.preset(DEFAULT)?;
            let config = options.configure((preset.config)())?;
            let index = squares.len();
            let masks = Arc::new(options.styles.masks(&options.pictures, options.quiet)?);
            let mut square = Square { index, added, options, preset, config, masks, output: PathBuf::new() };
            let plain = |c: char| if c.is_alphanumeric() || "=.,-".contains(c) { c } else { '_' };
            let name: String = square.name().chars().map(plain).collect();
            square.output = folder.join(format!("{name}.png"));
            if squares.iter().any(|other: &Square| other.output == square.output) {
                square.output = folder.join(format!("{name}_{index}.png"));
            }
            squares.push(square);
        }
    }
    Ok(squares)
}

/// How large the sheet is, which has to be a picture that can be written.
fn layout(arguments: &Grid, labels: &[Vec<String>; 2], squares: &[Square], content: &Picture) -> Result<Layout> {
    let sizes = squares.iter().filter_map(|square| {
        let last = square.config.scales(content).pop()?;
        let longest = last.width.max(last.height);
        let shrink = |side: usize| match arguments.cell.map(usize::from).filter(|cell| *cell < longest) {
            Some(cell) => ((side * cell) as f64 / longest as f64).round().max(1.0) as usize,
            None => side,
        };
        Some([last.width, last.height].map(shrink))
    });
    let cell = sizes.fold([1, 1], |most, size| [most[0].max(size[0]), most[1].max(size[1])]);
    let layout = Layout::new(&labels[0], &labels[1], cell);
    let [width, height] = layout.size;
    if (width * height * 12) as u64 > MAX_DECODED_BYTES || width.max(height) > 65_535 {
        let what = format!("a sheet of {width}x{height} pixels is too large");
        let hint = "give smaller cells, e.g. --cell 256, or fewer values";
        return Err(Error::Config { option: "cell", what, hint: hint.into() });
    }
    Ok(layout)
}

fn check_outputs(arguments: &Grid, squares: &[Square]) -> Result<()> {
    let styles = style_files(&arguments.style)?;
    let inputs = styles.iter().chain([&arguments.content]).map(PathBuf::as_path);
    let own = squares.iter().flat_map(|square| square.options.input_files());
    let mut claims = Claims::new(inputs.chain(own));
    let mut claim = |picture: &Path| Outputs::picture_alone(picture, arguments.options.overwrite).check(&mut claims);
    claim(&arguments.output)?;
    // A folder that is not there yet holds nothing that could be in the way.
    let kept = arguments.keep.as_ref().is_some_and(|keep| keep.exists());
    squares.iter().filter(|_| kept).try_for_each(|square| claim(&square.output))
}

/// Content, styles, and the files of these.
type Given<'a> = (&'a Decoded, &'a Arc<Vec<Picture>>, &'a [PathBuf]);

/// Makes every picture. `None` if Ctrl-C stopped a download.
fn paint(arguments: &Grid, mut squares: Vec<Square>, given: Given<'_>) -> Result<Option<(Outcome, Vec<Cell>)>> {
    let all = squares.len();
    let mut cells: Vec<Cell> = (0..all).map(|_| Err("not made".into())).collect();
    let mut tally = Tally::new(arguments.options.quiet, 0);
    // Those of a network together.
    squares.sort_by(|a, b| a.options.weights.cmp(&b.options.weights));
    let depth = |weights: &str| {
        let of = squares.iter().filter(|square| square.options.weights == weights);
        of.map(|square| square.config.depth()).max().unwrap_or(0)
    };
    let mut workshop: Option<(String, Workshop)> = None;
    for (at, square) in squares.iter().enumerate() {
        let weights = &square.options.weights;
        match &mut workshop {
            Some((of, _)) if of == weights => {}
            Some((of, workshop)) => {
                if !workshop.change_weights(&square.options, depth(weights))? {
                    return Ok(None);
                }
                of.clone_from(weights);
            }
            None => {
                let Some(opened) = Workshop::open(&square.options, depth(weights), (true, true))? else {
                    return Ok(None);
                };
                workshop = Some((weights.clone(), opened));
            }
        }
        let Some((_, workshop)) = &mut workshop else { break };
        let (place, name) = (format!("[{}/{all}]", at + 1), square.name());
        tally.say(&format!("{place} {name}"));
        let outcome = one(arguments, square, given, workshop);
        let cell = match outcome {
            Ok(_) => Picture::decode(&square.output),
            Err(error) => Err(error),
        };
        match cell {
            Ok(picture) => cells[square.index] = Ok(picture),
            Err(error) => {
                tally.failed(&place, &name, &error);
                cells[square.index] = Err(format!("failed: {error}"));
            }
        }
        tally.made += usize::from(cells[square.index].is_ok());
        if workshop.interrupted() {
            return Ok(Some((tally.interrupted(all), cells)));
        }
    }
    Ok(Some((tally.end(all), cells)))
}

fn one(arguments: &Grid, square: &Square, given: Given<'_>, workshop: &mut Workshop) -> Result<Outcome> {
    let Square { options, preset, config, .. } = square;
    let (content, styles, style_files) = given;
    let files = style_files.iter().chain([&arguments.content]).map(PathBuf::as_path);
    let files: Vec<&Path> = files.chain(options.picture_files()).collect();
    let mut record = Record::new(&files, options, config)?;
    // What the file says is in it; what the axes say comes from the grid.
    record.arguments = line::of_one(&record.arguments, &arguments.content, &OWN, &square.added);
    let mut job = Job::new(
        options,
        (preset, config.clone()),
        (content.picture.clone(), styles.clone()),
        square.output.clone(),
        record,
    );
    (job.alpha, job.masks) = (content.alpha.clone(), square.masks.clone());
    job.says_where = arguments.keep.is_some();
    job.rescued = beside(&square.output, "failed");
    workshop.paint(&mut job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_an_option_and_its_values() {
        let axis = |option: &str, values: &[&str]| {
            Ok(Axis { option: option.into(), values: values.iter().map(|value| value.to_string()).collect() })
        };
        assert_eq!(Axis::parse("style-weight=1,10, 100"), axis("style-weight", &["1", "10", "100"]));
        assert_eq!(Axis::parse("--pooling=avg"), axis("pooling", &["avg"]));
        let layers = Axis::parse("style-layers=relu1_1,relu2_1=0.5;relu3_1");
        assert_eq!(layers, axis("style-layers", &["relu1_1,relu2_1=0.5", "relu3_1"]));
        for (bad, what) in [
            ("style-weight", "write it as"),
            ("style-wait=1", "there is no option `style-wait`"),
            ("style-weight=1,x", "invalid value 'x' for '--style-weight"),
            ("pooling=avg,mean", "invalid value 'mean' for '--pooling"),
            ("size=64,64", "`64` is there twice"),
            ("quiet=true", "changes nothing that a picture shows"),
            ("resume=a,b", "there is no option `resume`"),
        ] {
            assert!(Axis::parse(bad).is_err_and(|error| error.contains(what)), "{bad}");
        }
    }
}
