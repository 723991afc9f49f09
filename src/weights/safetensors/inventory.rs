//! Every layer of a safetensors file in turn, for people to look at.

use super::super::show::{Entry, Inventory, first};
use super::super::{Fault, VGG19, conv, row_major};
use super::{FEATURES, Source, digest};

/// Writes down what is there, up to where it cannot be read.
pub(in super::super) fn inventory(source: &Source<'_>, inventory: &mut Inventory) -> Result<(), Fault> {
    let cache = source.about();
    inventory.format = match cache {
        Some(_) => "safetensors, impasto's cache file".into(),
        None => "safetensors".into(),
    };
    let mut about: Vec<(&String, &String)> = source.header.metadata().iter().flatten().collect();
    about.sort();
    for (key, value) in about {
        if !key.starts_with("sha256.") && key != "seal" && key != "format" {
            inventory.fact(key, value);
        }
    }
    let names = source.header.offset_keys();
    let mut stems: Vec<&str> = Vec::new();
    for name in &names {
        let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
        if !stems.contains(&stem) && stems.len() < 1000 {
            stems.push(stem);
        }
    }
    for stem in stems {
        let parts = ["weight", "bias"].map(|part| format!("{stem}.{part}"));
        let shapes: Vec<Vec<usize>> =
            parts.iter().filter_map(|name| Some(source.header.info(name)?.shape.clone())).collect();
        let index = match cache {
            Some(_) => VGG19.iter().position(|(name, ..)| *name == stem),
            None => FEATURES
                .iter()
                .position(|n| stem == format!("features.{n}") || stem.ends_with(&format!(".features.{n}"))),
        };
        let mut entry = Entry { name: stem.into(), shapes, ..Entry::default() };
        let Some(index) = index else {
            inventory.entries.push(entry);
            continue;
        };
        let (name, inputs, outputs) = VGG19[index];
        (entry.name, entry.kind) = (name.into(), "conv".into());
        let shape = if cache.is_some() { [3, 3, inputs, outputs] } else { [outputs, inputs, 3, 3] };
        let read = source
            .tensor(index, &parts[0], &shape)
            .and_then(|kernel| Ok((kernel, source.tensor(index, &parts[1], &[outputs])?)));
        let (kernel, bias) = match read {
            Ok(values) => values,
            Err(fault) => {
                entry.state = Some(fault.what);
                inventory.entries.push(entry);
                continue;
            }
        };
        let kernel = if cache.is_some() { kernel } else { row_major(&kernel, inputs, outputs, false) };
        let conv = conv(index, kernel, bias);
        let known = cache.map(|about| about.get(&format!("sha256.{name}")));
        if known.is_some_and(|known| known != Some(&digest(&conv))) {
            entry.first = vec![first(&conv.kernel), first(&conv.bias)];
            entry.state = Some("changed after it was written: it has another digest".into());
            inventory.entries.push(entry);
        } else {
            inventory.conv(entry, &conv);
        }
    }
    Ok(())
}
