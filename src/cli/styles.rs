//! Options about the styles, how they are blended and where they go, and the files that these name.

use std::path::{Path, PathBuf};

use clap::Args;
use impasto::error::{Error, Result};
use impasto::picture::{Mask, Picture};
use impasto::transfer::{Config, Inputs, Place, Size};

use super::args::{Options, parse_size};
use super::contents::expand;
use super::pictures::PictureOptions;

/// What stands for the part of the picture that other styles' masks leave.
const REST: [&str; 2] = ["rest", "none"];

#[derive(Args, Debug, Default)]
pub(crate) struct StyleOptions {
    /// Size of the style pictures: as --size, or `auto`: the result's times --style-scale, never enlarged
    #[arg(long, value_parser = parse_style_size, value_name = "SIZE|auto", allow_negative_numbers = true)]
    style_size: Option<StyleSize>,
    /// Size of the style pictures relative to the result: one number for all, or one for each, e.g. 1,0.5
    #[arg(long, value_parser = parse_numbers, value_name = "FACTOR,…", allow_hyphen_values = true)]
    style_scale: Option<Numbers>,
    /// How much of each style is in the blend, e.g. 3,1; with masks, among the styles of the same one [default: all alike]
    #[arg(long, value_parser = parse_numbers, value_name = "WEIGHT,…", allow_hyphen_values = true)]
    style_blend_weights: Option<Numbers>,
    /// Where a style goes: a grey picture of any size, white there, soft edges kept; or `rest`, what the others' masks
    /// leave. Once for each --style, in their order
    #[arg(long, value_name = "FILE|rest")]
    style_mask: Vec<String>,
    /// Where the content is painted: a grey picture, white where it is, black where the content stays as it is
    #[arg(long, value_name = "FILE")]
    content_mask: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct StyleSize(Option<Size>);

/// A list of numbers; a type of its own, since clap takes `Vec` for a repeated option.
#[derive(Clone, Debug)]
struct Numbers(Vec<f32>);

fn parse_style_size(text: &str) -> Result<StyleSize, String> {
    if text == "auto" {
        return Ok(StyleSize(None));
    }
    parse_size(text).map(|size| StyleSize(Some(size))).map_err(|error| format!("{error}, or auto"))
}

fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let number = |text: &str| text.trim().parse().map_err(|_| format!("`{text}` is not a number"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Numbers)
}

impl StyleOptions {
    /// Puts every option given over `config`; a new size of the result undoes the preset's squashing of the style.
    pub(crate) fn configure(&self, config: &mut Config, new_size: bool) {
        if new_size || self.style_scale.is_some() {
            config.style_size = None;
        }
        if let Some(size) = self.style_size {
            config.style_size = size.0;
        }
        if let Some(Numbers(scale)) = &self.style_scale {
            config.style_scale.clone_from(scale);
        }
        if let Some(Numbers(weights)) = &self.style_blend_weights {
            config.style_blend_weights.clone_from(weights);
        }
    }

    /// Refuses options that leave nothing of each other.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        match self.style_scale.is_some() && config.style_size.is_some() {
            true => Err(Error::Config {
                option: "style-scale",
                what: "--style-size leaves nothing to scale".into(),
                hint: "give one of the two".into(),
            }),
            false => Ok(()),
        }
    }

    /// Where each style goes, and what is painted at all.
    pub(crate) fn masks(&self, pictures: &PictureOptions, quiet: bool) -> Result<Masks> {
        let read = |text: &String| Ok(Mask::from(&pictures.read(Path::new(text), quiet)?));
        let place = |text: &String| match REST.contains(&text.as_str()) {
            true => Ok(Place::Rest),
            false => Ok(Place::Within(read(text)?)),
        };
        let places = self.style_mask.iter().map(place).collect::<Result<_>>()?;
        Ok(Masks { places, paint: self.content_mask.as_ref().map(read).transpose()? })
    }

    /// The files of the masks.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let masks = self.style_mask.iter().filter(|text| !REST.contains(&text.as_str()));
        masks.chain(&self.content_mask).map(Path::new)
    }

    /// The same, to be put in other places.
    pub(crate) fn files_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let masks = self.style_mask.iter_mut().filter(|text| !REST.contains(&text.as_str()));
        masks.chain(&mut self.content_mask)
    }
}

/// Where each style goes, if not everywhere, and where the content is painted, if not everywhere.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    places: Vec<Place>,
    pub(crate) paint: Option<Mask>,
}

impl Masks {
    /// What a run with these pictures is given.
    pub(crate) fn inputs<'a>(&'a self, content: &'a Picture, styles: &'a [Picture]) -> Inputs<'a> {
        Inputs { masks: &self.places, paint: self.paint.as_ref(), ..Inputs::new(content, styles) }
    }
}

/// The files of the styles: a folder stands for every picture in it, by name. One that is named twice counts twice.
pub(crate) fn style_files(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        match path.is_dir() {
            true => files.extend(expand(std::slice::from_ref(path), false)?.into_iter().map(|found| found.path)),
            false => files.push(path.clone()),
        }
    }
    Ok(files)
}

/// The style pictures of these files and folders.
pub(crate) fn read(given: &[PathBuf], options: &Options) -> Result<Vec<Picture>> {
    style_files(given)?.iter().map(|path| Ok(options.pictures.read(path, options.quiet)?.picture)).collect()
}
