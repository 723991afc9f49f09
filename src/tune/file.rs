//! What is known of an adapter, as a file.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Dropped, Timing, Tuned};
use crate::ops::KERNELS;
use crate::recording::{Choices, Geometry, Method, Pass, Rule};

/// Raised when what is in the file means something else.
const FORMAT: u32 = 1;

/// What a file holds for: adapter and driver as they are given, this version, and the text of every shader.
pub(super) fn key(adapter: &str) -> String {
    let mut shaders = Sha256::new();
    for kernel in KERNELS {
        shaders.update((kernel.source.len() as u64).to_le_bytes());
        shaders.update(kernel.source);
    }
    let shaders: String = shaders.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{adapter}; impasto {}; shaders {shaders}; format {FORMAT}", env!("CARGO_PKG_VERSION"))
}

/// The name of a key's file.
pub(super) fn digest(key: &str) -> String {
    Sha256::digest(key).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn text(tuned: &Tuned) -> String {
    let range = |range: &RangeInclusive<usize>| json!([range.start(), range.end()]);
    let rule = |rule: &Rule| {
        json!({
            "pass": rule.pass.map(pass_name),
            "reads": range(&rule.reads),
            "writes": range(&rule.writes),
            "positions": range(&rule.positions),
            "method": rule.method.to_string(),
        })
    };
    let timing = |timing: &Timing| {
        let Geometry { pass, reads, writes, positions } = timing.geometry;
        json!({
            "pass": pass_name(pass), "reads": reads, "writes": writes, "positions": positions,
            "method": timing.method.to_string(), "seconds": timing.seconds,
        })
    };
    let dropped = |dropped: &Dropped| json!({ "method": dropped.method.to_string(), "why": dropped.why });
    let value = json!({
        "key": tuned.key,
        "seconds": tuned.took.as_secs_f64(),
        "rules": tuned.choices.rules.iter().map(rule).collect::<Vec<_>>(),
        "dropped": tuned.dropped.iter().map(dropped).collect::<Vec<_>>(),
        "timings": tuned.timings.iter().map(timing).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

/// Anything that is not whole, or holds for something else, is nothing.
pub(super) fn parse(text: &str, key: &str) -> Option<Tuned> {
    let value: Value = serde_json::from_str(text).ok()?;
    if value["key"].as_str()? != key {
        return None;
    }
    let number = |value: &Value| -> Option<usize> { value.as_u64()?.try_into().ok() };
    let range = |value: &Value| match value.as_array()?.as_slice() {
        [from, until] => Some(number(from)?..=number(until)?),
        _ => None,
    };
    let named = |value: &Value| value["method"].as_str()?.parse::<Method>().ok();
    let rule = |value: &Value| {
        let pass = if value["pass"].is_null() { None } else { Some(pass(&value["pass"])?) };
        let [reads, writes, positions] = ["reads", "writes", "positions"].map(|field| range(&value[field]));
        Some(Rule { pass, reads: reads?, writes: writes?, positions: positions?, method: named(value)? })
    };
    let timing = |value: &Value| {
        let [reads, writes, positions] = ["reads", "writes", "positions"].map(|field| number(&value[field]));
        let geometry = Geometry { pass: pass(&value["pass"])?, reads: reads?, writes: writes?, positions: positions? };
        Some(Timing { geometry, method: named(value)?, seconds: value["seconds"].as_f64()? })
    };
    let dropped = |value: &Value| Some(Dropped { method: named(value)?, why: value["why"].as_str()?.into() });
    Some(Tuned {
        key: key.into(),
        choices: Choices { rules: value["rules"].as_array()?.iter().map(rule).collect::<Option<_>>()? },
        dropped: value["dropped"].as_array()?.iter().map(dropped).collect::<Option<_>>()?,
        timings: value["timings"].as_array()?.iter().map(timing).collect::<Option<_>>()?,
        took: Duration::try_from_secs_f64(value["seconds"].as_f64()?).ok()?,
    })
}

fn pass_name(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "forward",
        Pass::Backward => "backward",
    }
}

fn pass(value: &Value) -> Option<Pass> {
    let name = value.as_str()?;
    [Pass::Forward, Pass::Backward].into_iter().find(|pass| pass_name(*pass) == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::recording::{Block, Matrices};

    #[test]
    fn a_file_is_read_as_it_was_written_and_a_damaged_one_not_at_all() {
        let at = Geometry { pass: Pass::Backward, reads: 64, writes: 128, positions: 1 << 18 };
        let method = Method::Winograd(Block::LARGE);
        let rules = vec![
            Rule { pass: Some(Pass::Backward), reads: 64..=64, positions: 5..=usize::MAX, ..Rule::always(method) },
            Rule::always(Method::Direct(Block::SQUARE)),
            Rule::always(Method::Cooperative(Matrices { edge: 16, subgroup: 32 })),
        ];
        let tuned = Tuned {
            key: key("card; driver 1"),
            choices: Choices { rules },
            dropped: vec![Dropped { method: Method::Direct(Block::TALL), why: "its output differs".into() }],
            timings: vec![Timing { geometry: at, method, seconds: 0.25 }],
            took: Duration::from_millis(1500),
        };
        let text = text(&tuned);
        assert_eq!(parse(&text, &tuned.key).unwrap(), tuned);
        assert_eq!(parse(&text, &key("card; driver 2")), None, "another driver");
        for (from, to) in [("winograd 128x128x8", "winograd 13x13x8"), ("backward", "sideways"), ("\"rules\"", "\"r\"")]
        {
            assert_eq!(parse(&text.replace(from, to), &tuned.key), None, "{to}");
        }
        assert_eq!(parse(&text[..text.len() / 2], &tuned.key), None, "cut off");
    }
}
