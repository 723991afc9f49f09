//! `impasto stylize` with several pictures: one after the other on the same device and network. One that fails does not
//! stop the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use impasto::error::{Error, Result};
use impasto::picture::{Decoded, Picture, beside};
use impasto::transfer::presets::{DEFAULT, Preset};
use impasto::transfer::{Config, Init};

use super::args::{Options, Stylize};
use super::checkpoint::CheckpointOptions;
use super::contents::{Found, Shard, expand, is_picture, is_several};
use super::files::{Claims, Outputs, folder_of, output_error, place};
use super::names::typed;
use super::pictures::PictureOptions;
use super::record::Record;
use super::styles::{Masks, style_files};
use super::stylize::Job;
use super::workshop::Workshop;
use super::{Outcome, line, note, one_line};

/// Failures that the summary lists at most.
const LISTED: usize = 10;
/// What only a batch has, and the record of one of its pictures has not.
const OWN: [&str; 5] = ["styles", "format", "recursive", "skip-existing", "shard"];

#[derive(Args, Debug, Default)]
pub(crate) struct BatchOptions {
    /// Folder of style pictures, or a pattern: paint every content in each style by itself, as CONTENT_STYLE.EXT
    #[arg(long, value_name = "DIR", conflicts_with = "style")]
    pub(crate) styles: Option<PathBuf>,
    /// Format of the results of several pictures [default: png]
    #[arg(long)]
    format: Option<FormatName>,
    /// Look for pictures in the folders below those named, too; results go into folders of the same names
    #[arg(long)]
    recursive: bool,
    /// Leave out pictures whose results are there already
    #[arg(long, conflicts_with = "overwrite")]
    skip_existing: bool,
    /// Paint part I of N parts of the pictures, which together are all: for the array jobs of a cluster
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    shard: Option<Shard>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Png,
    #[value(alias = "jpeg")]
    Jpg,
    Webp,
    #[value(alias = "tif")]
    Tiff,
}

/// Whether one content is a batch all the same.
pub(crate) fn is_asked_for(arguments: &Stylize) -> bool {
    let BatchOptions { styles, format, recursive, skip_existing, shard } = &arguments.batch;
    let options = styles.is_some() || format.is_some() || *recursive || *skip_existing || shard.is_some();
    options || arguments.content.iter().any(|content| is_several(content))
}

/// One picture to make.
#[derive(Clone, Debug)]
struct Order {
    content: PathBuf,
    /// One of several styles.
    style: Option<PathBuf>,
    output: PathBuf,
    /// What the names of its log and its plot end in.
    name: String,
    /// There is a checkpoint to go on from.
    resumes: bool,
}

/// Runs `impasto stylize` for several pictures.
pub(crate) fn run(arguments: &Stylize) -> Result<Outcome> {
    Batch::new(arguments)?.run()
}

struct Batch<'a> {
    arguments: &'a Stylize,
    options: &'a Options,
    preset: &'static Preset,
    config: Config,
    orders: Vec<Order>,
    /// How many were left out, since their results are there.
    there: usize,
    claims: Claims,
    /// Those of the styles that are blended.
    style_files: Vec<PathBuf>,
    /// The styles read last, and the one of several that they are.
    styles: Option<(Option<PathBuf>, Arc<Vec<Picture>>)>,
    masks: Arc<Masks>,
}

impl<'a> Batch<'a> {
    /// Everything that can be refused, is, before a picture is made.
    fn new(arguments: &'a Stylize) -> Result<Batch<'a>> {
        let options = &arguments.options;
        if options.dump_plan {
            let hint = "give one content, and the name of one result".into();
            return Err(Error::Config { option: "dump-plan", what: "is about one picture".into(), hint });
        }
        if options.checkpoint.names_a_file() {
            let hint = "give it without a name: every picture has its own".into();
            return Err(Error::Config { option: "resume", what: "names one file for several pictures".into(), hint });
        }
        let preset = options.preset(DEFAULT)?;
        let config = options.configure((preset.config)())?;
        let (contents, styles) = named(arguments)?;
        let all = orders(arguments, &contents, &styles)?;
        let orders = arguments.batch.shard.map_or(all.clone(), |shard| shard.of(all));
        let style_files = style_files(&arguments.style)?;
        let inputs = contents.iter().chain(&styles).map(|found| found.path.as_path());
        let claims = Claims::new(inputs.chain(style_files.iter().map(PathBuf::as_path)).chain(options.input_files()));
        let masks = Arc::new(options.styles.masks(&options.pictures, options.quiet)?);
        // What does not hang on the pictures is wrong for all of them.
        let dot = Picture { width: 1, height: 1, rgb: vec![0.0; 3] };
        let dots = vec![dot.clone(); if styles.is_empty() { style_files.len() } else { 1 }];
        masks.inputs(&dot, &dots).check(&Config { init: Init::Content, ..config.clone() })?;
        let mut batch = Batch {
            arguments,
            options,
            preset,
            config,
            orders: Vec::new(),
            there: 0,
            claims,
            style_files,
            styles: None,
            masks,
        };
        for order in orders {
            batch.take(order)?;
        }
        Ok(batch)
    }

    /// Takes an order on, unless it is done already.
    fn take(&mut self, order: Order) -> Result<()> {
        let resumes = self.options.checkpoint.resumes();
        let begun = self.options.checkpoint.path(&order.output).is_some_and(|checkpoint| checkpoint.exists());
        let skips = self.arguments.batch.skip_existing || (resumes && !self.options.overwrite);
        if skips && !begun && order.output.exists() {
            self.there += 1;
            return Ok(());
        }
        // Who leaves out what is there wants what was broken off to be gone on with.
        let order = Order { resumes: skips && begun, ..order };
        let (checkpoint, log, plot) = self.beside(&order);
        let checkpoint_file = checkpoint.path(&order.output);
        let outputs = Outputs {
            log: log.as_deref(),
            plot: plot.as_deref(),
            checkpoint: checkpoint_file.as_deref(),
            ..Outputs::picture_alone(&order.output, self.options.overwrite || resumes || order.resumes)
        };
        // First, since who broke a picture off wants to hear of --resume.
        checkpoint.check(&order.output, self.options.overwrite)?;
        // A folder that is not there yet holds nothing that could be in the way.
        match folder_of(&order.output).is_dir() {
            true => outputs.check(&mut self.claims)?,
            false => outputs.check_beside(&mut self.claims)?,
        }
        self.options.pictures.check(&order.output)?;
        self.orders.push(order);
        Ok(())
    }

    /// Checkpoint, log and plot of one picture.
    fn beside(&self, order: &Order) -> (CheckpointOptions, Option<PathBuf>, Option<PathBuf>) {
        let mut checkpoint = self.options.checkpoint.clone();
        if order.resumes {
            checkpoint.go_on();
        } else {
            checkpoint.begin_anew();
        }
        let named = |path: &Option<PathBuf>| path.as_deref().map(|path| beside(path, &order.name));
        (checkpoint, named(&self.options.log), named(&self.options.plot))
    }

    fn run(mut self) -> Result<Outcome> {
        let orders = std::mem::take(&mut self.orders);
        let mut tally = Tally::new(self.options.quiet, self.there);
        let Some(first) = orders.first() else {
            tally.end(0);
            return Ok(Outcome::Done);
        };
        if first.style.is_none() {
            self.styles(None)?;
        }
        let Some(mut workshop) = Workshop::open(self.options, self.config.depth(), (true, true))? else {
            return Ok(Outcome::Interrupted);
        };
        for order in &orders {
            let folder = folder_of(&order.output);
            std::fs::create_dir_all(folder)
                .map_err(|error| output_error(folder, &format!("cannot be made: {error}"), "choose another folder"))?;
        }
        let read = |workshop: &Workshop, order: &Order| {
            let (path, limits) = (order.content.clone(), self.options.pictures.limits());
            workshop.beside(move || Decoded::read(&path, &limits))
        };
        let mut next = Some(read(&workshop, first));
        for (at, order) in orders.iter().enumerate() {
            let Some(content) = next.take() else { break };
            let place = format!("[{}/{}]", at + 1, orders.len());
            let content = workshop.wait(content).flatten();
            // Read while this one is painted.
            next = orders.get(at + 1).map(|order| read(&workshop, order));
            tally.say(&format!("{place} {}", show(order)));
            match content.and_then(|content| self.paint(&mut workshop, order, content)) {
                Ok(Outcome::Done) => tally.made += 1,
                Ok(_) => return Ok(tally.interrupted(orders.len())),
                Err(error) => tally.failed(&place, &order.content, &error),
            }
            if workshop.interrupted() && at + 1 < orders.len() {
                return Ok(tally.interrupted(orders.len()));
            }
        }
        Ok(tally.end(orders.len()))
    }

    /// Makes one picture.
    fn paint(&mut self, workshop: &mut Workshop, order: &Order, content: Decoded) -> Result<Outcome> {
        PictureOptions::tell(&content, &order.content, self.options.quiet);
        let styles = self.styles(order.style.as_deref())?;
        let style_files: Vec<&Path> = match &order.style {
            Some(style) => vec![style],
            None => self.style_files.iter().map(PathBuf::as_path).collect(),
        };
        let files: Vec<&Path> =
            style_files.into_iter().chain([&*order.content]).chain(self.options.picture_files()).collect();
        let mut record = Record::new(&files, self.options, &self.config)?;
        let added: Vec<String> = order.style.iter().map(|style| format!("--style={}", style.display())).collect();
        record.arguments = line::of_one(&record.arguments, &order.content, &OWN, &added);
        let mut job = Job::new(
            self.options,
            (self.preset, self.config.clone()),
            (content.picture, styles),
            order.output.clone(),
            record,
        );
        (job.alpha, job.masks) = (content.alpha, self.masks.clone());
        (job.checkpoint, job.log, job.plot) = self.beside(order);
        // What a run that was killed has left of them.
        job.replaces = self.options.checkpoint.resumes() || order.resumes;
        // What is there once it has failed must not look like a result that is done.
        job.rescued = beside(&order.output, "failed");
        if job.checkpoint.path(&order.output).is_none() {
            // Nor what was broken off, where nothing else says that it was.
            job.unfinished = beside(&order.output, "unfinished");
        }
        job.inputs().check(&job.config)?;
        job.outputs(|outputs| outputs.check_numbered(&mut self.claims))?;
        workshop.paint(&mut job)
    }

    /// The style pictures, or this one of several.
    fn styles(&mut self, one: Option<&Path>) -> Result<Arc<Vec<Picture>>> {
        if let Some((_, styles)) = self.styles.as_ref().filter(|(of, _)| of.as_deref() == one) {
            return Ok(styles.clone());
        }
        let paths = one.map_or(self.style_files.iter().map(PathBuf::as_path).collect(), |one| vec![one]);
        let read = |path| Ok(self.options.pictures.read(path, self.options.quiet)?.picture);
        let styles = Arc::new(paths.into_iter().map(read).collect::<Result<Vec<_>>>()?);
        self.styles = Some((one.map(Path::to_path_buf), styles.clone()));
        Ok(styles)
    }
}

/// The contents, and the styles of which each is to be used by itself.
fn named(arguments: &Stylize) -> Result<(Vec<Found>, Vec<Found>)> {
    let contents = expand(&arguments.content, arguments.batch.recursive)?;
    let styles =
        arguments.batch.styles.as_ref().map_or(Ok(Vec::new()), |styles| expand(std::slice::from_ref(styles), false))?;
    let output = &arguments.output;
    if output.exists() && !output.is_dir() {
        return Err(output_error(output, "is a file", "name a folder: several pictures go into it"));
    }
    if !output.exists() && is_picture(output) {
        let what =
            format!("is the name of one picture, and this is a batch ({})", contents.len() * styles.len().max(1));
        return Err(output_error(output, &what, "name a folder, which is made if it is missing"));
    }
    // The next run, or another shard, would take results for contents.
    let same = |folder: &PathBuf| {
        let [folder, output] = [folder, output].map(|path| place(path));
        output == folder || (arguments.batch.recursive && output.starts_with(folder))
    };
    if let Some(folder) =
        arguments.content.iter().chain(&arguments.batch.styles).find(|named| named.is_dir() && same(named))
    {
        let what = format!("is where pictures are read from: {} would have the results among them", folder.display());
        return Err(output_error(output, &what, "name another folder"));
    }
    Ok((contents, styles))
}

/// Everything there is to do, each style's pictures together; what is named twice is refused.
fn orders(arguments: &Stylize, contents: &[Found], styles: &[Found]) -> Result<Vec<Order>> {
    let extension = typed(arguments.batch.format.unwrap_or(FormatName::Png));
    let order = |content: &Found, style: Option<&Found>| {
        let mut name = content.name.clone().into_os_string();
        if let Some(style) = style {
            name.push("_");
            name.push(&style.name);
        }
        let mut file = name.clone();
        file.push(format!(".{extension}"));
        let flat = name.to_string_lossy().replace(std::path::is_separator, "_");
        let (content, style) = (content.path.clone(), style.map(|style| style.path.clone()));
        Order { content, style, output: arguments.output.join(file), name: flat, resumes: false }
    };
    let orders: Vec<Order> = match styles {
        [] => contents.iter().map(|content| order(content, None)).collect(),
        styles => styles
            .iter()
            .flat_map(|style| contents.iter().map(move |content| (content, style)))
            .map(|(content, style)| order(content, Some(style)))
            .collect(),
    };
    let mut taken = HashMap::new();
    for order in &orders {
        if let Some(other) = taken.insert(&order.output, order) {
            let what = format!("would be the result of {} and of {}", sources(other), sources(order));
            return Err(output_error(&order.output, &what, "rename one of them, or paint them into different folders"));
        }
    }
    Ok(orders)
}

fn sources(order: &Order) -> String {
    let style = order.style.iter().map(|style| format!(" in the style of {}", style.display()));
    format!("{}{}", order.content.display(), style.collect::<String>())
}

fn show(order: &Order) -> String {
    one_line(&format!("{} -> {}", sources(order), order.output.display()))
}

/// What has come of a batch so far.
#[derive(Debug)]
pub(crate) struct Tally {
    quiet: bool,
    pub(crate) made: usize,
    /// Results that were there already.
    there: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Of a batch from which so many results were there already.
    pub(crate) fn new(quiet: bool, there: usize) -> Tally {
        Tally { quiet, made: 0, there, failures: Vec::new() }
    }

    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            note!("{text}");
        }
    }

    /// Says at once that a picture failed, and keeps it for the end.
    pub(crate) fn failed(&mut self, place: &str, name: impl AsRef<Path>, error: &Error) {
        let text = one_line(&error.to_string());
        note!("{place} failed: {text}");
        if !error.hint().is_empty() {
            note!("hint: {}", one_line(error.hint()));
        }
        self.failures.push(format!("{}: {text}", one_line(&name.as_ref().display().to_string())));
    }

    fn summary(&self, all: usize) -> String {
        let there = if self.there > 0 { format!(", {} there already", self.there) } else { String::new() };
        let failed = if self.failures.is_empty() { String::new() } else { format!(", {} failed", self.failures.len()) };
        format!("{} of {} pictures made{there}{failed}", self.made, all + self.there)
    }

    /// The end of a batch of so many pictures beside those that were there.
    pub(crate) fn end(&self, all: usize) -> Outcome {
        if self.failures.is_empty() {
            self.say(&self.summary(all));
            return Outcome::Done;
        }
        note!("{}:", self.summary(all));
        for failure in self.failures.iter().take(LISTED) {
            note!("  {failure}");
        }
        if let more @ 1.. = self.failures.len().saturating_sub(LISTED) {
            note!("  and {more} more");
        }
        Outcome::Failed
    }

    /// The end that Ctrl-C made.
    pub(crate) fn interrupted(&self, all: usize) -> Outcome {
        self.end(all);
        Outcome::Interrupted
    }
}
