//! Profiles as files: JSON to keep and compare, and the trace format of Chrome and Perfetto.

use std::path::Path;

use serde_json::{Value, json};

use super::{Profile, Roofs, Row};
use crate::error::{Error, Result};
use crate::recording::Clock;

/// Names of the clocks in files, and for people.
pub(super) const CLOCKS: [(Clock, &str); 3] = [
    (Clock::Launches, "device, between launches"),
    (Clock::Passes, "device, at the ends of passes"),
    (Clock::Host, "host"),
];

impl Profile {
    /// What the rows were timed with, in words.
    pub fn clock_name(&self) -> &'static str {
        CLOCKS.iter().find(|(clock, _)| *clock == self.clock).map_or("", |(_, name)| name)
    }

    /// All of it, to be read again by [`Profile::from_json`].
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| row.to_json(&self.roofs)).collect();
        json!({
            "impasto": env!("CARGO_PKG_VERSION"),
            "device": self.device,
            "clock": self.clock_name(),
            "roof_gflops": self.roofs.flops * 1e-9,
            "roof_gbytes": self.roofs.bytes * 1e-9,
            "whole_ms": self.whole * 1e3,
            "rows_ms": self.seconds() * 1e3,
            "rows": rows,
        })
    }

    /// Reads what [`Profile::to_json`] wrote; `path` is for the message.
    pub fn from_json(text: &str, path: &Path) -> Result<Profile> {
        let fail = || Error::Config {
            option: "compare",
            what: format!("{} is not a profile", path.display()),
            hint: "give a file that `impasto profile --json FILE` has written".into(),
        };
        let value: Value = serde_json::from_str(text).map_err(|_| fail())?;
        let number =
            |value: &Value, key: &str| value[key].as_f64().filter(|number| number.is_finite()).ok_or_else(fail);
        let text = |value: &Value, key: &str| value[key].as_str().map(String::from).ok_or_else(fail);
        let clock = text(&value, "clock")?;
        let row = |row: &Value| -> Result<Row> {
            let grid: Option<Vec<u32>> = row["grid"]
                .as_array()
                .and_then(|grid| grid.iter().map(|side| side.as_u64().and_then(|side| side.try_into().ok())).collect());
            Ok(Row {
                kernel: text(row, "kernel")?,
                label: text(row, "label")?,
                grid: grid.and_then(|grid| grid.try_into().ok()).ok_or_else(fail)?,
                flops: row["flops"].as_u64().ok_or_else(fail)?,
                bytes: row["bytes"].as_u64().ok_or_else(fail)?,
                median: number(row, "median_ms")? * 1e-3,
                fastest: number(row, "fastest_ms")? * 1e-3,
            })
        };
        Ok(Profile {
            device: text(&value, "device")?,
            clock: CLOCKS.iter().find(|(_, name)| *name == clock).map(|(clock, _)| *clock).ok_or_else(fail)?,
            roofs: Roofs { flops: number(&value, "roof_gflops")? * 1e9, bytes: number(&value, "roof_gbytes")? * 1e9 },
            rows: value["rows"].as_array().ok_or_else(fail)?.iter().map(row).collect::<Result<_>>()?,
            whole: number(&value, "whole_ms")? * 1e-3,
        })
    }

    /// One iteration in the Trace Event Format, which Perfetto and chrome://tracing open: rows by their medians, one after
    /// the other, inside one event for all of them.
    pub fn to_trace(&self) -> Value {
        let mut begin = 0.0;
        let mut events = vec![
            json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": self.device } }),
            json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": 1, "args": { "name": "launches" } }),
        ];
        let args = json!({ "clock": self.clock_name(), "whole_ms": self.whole * 1e3 });
        let all = self.seconds() * 1e6;
        let (name, cat) = ("iteration", "iteration");
        events.push(
            json!({ "name": name, "cat": cat, "ph": "X", "ts": 0, "dur": all, "pid": 1, "tid": 1, "args": args }),
        );
        for row in &self.rows {
            let took = row.median * 1e6;
            events.push(json!({
                "name": format!("{} {}", row.kernel, row.label),
                "cat": row.kernel,
                "ph": "X",
                "ts": begin,
                "dur": took,
                "pid": 1,
                "tid": 1,
                "args": row.to_json(&self.roofs),
            }));
            begin += took;
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

impl Row {
    fn to_json(&self, roofs: &Roofs) -> Value {
        json!({
            "kernel": self.kernel,
            "label": self.label,
            "grid": self.grid,
            "flops": self.flops,
            "bytes": self.bytes,
            "median_ms": self.median * 1e3,
            "fastest_ms": self.fastest * 1e3,
            "gflops": self.flops_rate() * 1e-9,
            "gbytes": self.bytes_rate() * 1e-9,
            "roof": self.share(roofs),
        })
    }
}
