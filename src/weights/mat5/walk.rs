//! Every layer of a MatConvNet file in turn, for people to look at.

use std::fs::File;

use super::super::show::{Entry, Inventory, first};
use super::super::{Fault, VGG19, conv, row_major};
use super::stream::{Array, CELL, CHAR, Cursor, STRUCT};
use super::{Found, MAX_COUNT, variables};

/// The whole network inflates to 575 MB, as doubles to twice that.
const BUDGET: u64 = 2 << 30;

/// Writes down what is there, up to where it cannot be read.
pub(in super::super) fn inventory(file: &File, length: u64, big_endian: bool, inventory: &mut Inventory) {
    let mut found = Found { convs: Vec::new(), layers: false, mean: None };
    let mut names = Vec::new();
    let end = variables(file, length, big_endian, BUDGET, |cursor| {
        let array = cursor.array(u64::MAX)?;
        names.push(array.name.clone());
        match (array.name.as_str(), array.class) {
            ("layers", CELL) => layers(cursor, &array, inventory)?,
            ("normalization", STRUCT) => found.normalization(cursor, &array)?,
            ("meta", STRUCT) => cursor.fields(&array, |cursor, name, field| match (name, field.class) {
                ("normalization", STRUCT) => found.normalization(cursor, field),
                _ => Ok(()),
            })?,
            _ => {}
        }
        cursor.skip_to(array.end)?;
        Ok(true)
    });
    inventory.end = end.err().map(|fault| fault.what);
    // The file's end may be missing, and with it what the layouts are told apart by; a bias lies differently, too.
    let bias = inventory.entries.iter().find_map(|entry| entry.shapes.get(1)).and_then(|shape| shape.first());
    let has = |name: &str| names.iter().any(|found| found == name);
    let layout = match bias {
        _ if has("normalization") => "beta16 layout, the article's",
        _ if has("meta") => "later layout",
        Some(1) => "beta16 layout, the article's",
        Some(_) => "later layout",
        None => "unknown layout",
    };
    let order = if big_endian { ", big-endian" } else { "" };
    inventory.format = format!("MatConvNet in MATLAB v5{order}, {layout}");
    inventory.fact("variables", names.join(" "));
    inventory.fact("mean", found.mean.map_or("not found".into(), |[r, g, b]| format!("{r} {g} {b} (RGB)")));
}

fn layers(cursor: &mut Cursor<'_>, cell: &Array, inventory: &mut Inventory) -> Result<(), Fault> {
    if cell.count()? > MAX_COUNT {
        return Err(Fault::damaged("it has more layers than any VGG"));
    }
    for _ in 0..cell.count()? {
        let array = cursor.array(cell.end)?;
        let mut entry = Entry::default();
        let mut parts = Vec::new();
        let read = if array.class == STRUCT { layer(cursor, &array, &mut entry, &mut parts) } else { Ok(()) };
        if let Err(fault) = read {
            entry.state = Some("the file ends in it, or cannot be read on from here".into());
            inventory.entries.push(entry);
            return Err(fault);
        }
        add(entry, parts, inventory);
        cursor.skip_to(array.end)?;
    }
    Ok(())
}

/// Reads one layer; `parts` gets kernel and bias if they are no larger than a convolution's, else their first values.
fn layer(cursor: &mut Cursor<'_>, array: &Array, entry: &mut Entry, parts: &mut Vec<Vec<f32>>) -> Result<(), Fault> {
    cursor.fields(array, |cursor, field, value| {
        match (field, value.class) {
            ("name", CHAR) => entry.name = cursor.text(value)?,
            ("type", CHAR) => entry.kind = cursor.text(value)?,
            ("weights", CELL) => {
                for _ in 0..value.count()?.min(2) {
                    let leaf = cursor.array(value.end)?;
                    entry.shapes.push(leaf.shape.clone());
                    parts.push(match cursor.values(&leaf)? {
                        Some(values) => values,
                        None => {
                            // The values [0, 0, 0, :3] of a fully connected layer.
                            let stride = leaf.shape.split_last().map_or(1, |(_, rest)| rest.iter().product::<usize>());
                            let head = cursor.head(&leaf, stride.saturating_mul(2).saturating_add(1))?;
                            head.into_iter().step_by(stride.max(1)).collect()
                        }
                    });
                    cursor.skip_to(leaf.end)?;
                }
            }
            _ => {}
        }
        Ok(())
    })
}

fn add(mut entry: Entry, mut parts: Vec<Vec<f32>>, inventory: &mut Inventory) {
    let Some(index) = VGG19.iter().position(|(name, ..)| *name == entry.name) else {
        entry.first = parts.iter().map(|values| first(values)).collect();
        return inventory.entries.push(entry);
    };
    let (_, inputs, outputs) = VGG19[index];
    match (parts.pop(), parts.pop()) {
        (Some(bias), Some(kernel)) if entry.shapes[0] == [3, 3, inputs, outputs] && bias.len() == outputs => {
            let conv = conv(index, row_major(&kernel, inputs, outputs, true), bias);
            drop(kernel);
            inventory.conv(entry, &conv);
        }
        (Some(bias), Some(kernel)) => {
            entry.first = vec![first(&kernel), first(&bias)];
            entry.state = Some(format!("another shape than VGG-19's [3, 3, {inputs}, {outputs}] and [{outputs}]"));
            inventory.entries.push(entry);
        }
        _ => {
            entry.state = Some("has no kernel or no bias".into());
            inventory.entries.push(entry);
        }
    }
}
