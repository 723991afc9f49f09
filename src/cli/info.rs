//! `impasto devices` and `impasto presets`.

use impasto::gpu::{HARDWARE, adapters};
use impasto::transfer::presets::PRESETS;

use super::out;

/// Lists adapters, the CPU engine, and which one `auto` takes.
pub(crate) fn devices() {
    let adapters = adapters();
    let auto = HARDWARE.iter().find_map(|kind| adapters.iter().position(|adapter| adapter.kind == *kind));
    for (index, adapter) in adapters.iter().enumerate() {
        let mark = if auto == Some(index) { "  <- auto" } else { "" };
        out!("{index}: {} ({}, {}){mark}", adapter.name, adapter.backend, adapter.kind);
        out!("   driver {}", if adapter.driver.is_empty() { "unknown" } else { &adapter.driver });
        out!(
            "   largest binding {} MiB, workgroup memory {} KiB, {}",
            adapter.max_binding >> 20,
            adapter.workgroup_memory >> 10,
            if adapter.features.is_empty() { "no optional features".into() } else { adapter.features.join(", ") }
        );
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mark = if auto.is_none() { "  <- auto" } else { "" };
    out!("cpu: CPU engine, f32, {threads} threads{mark}");
    if auto.is_none() && !adapters.is_empty() {
        out!("A software renderer is slower than the CPU engine, so `auto` never takes it; `--device gpu` does.");
    }
}

/// Lists the presets.
pub(crate) fn presets() {
    for preset in PRESETS {
        out!("{:10} {}", preset.name, preset.summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_every_preset_with_its_summary() {
        let readme = include_str!("../../README.md");
        for preset in PRESETS {
            let row = format!("| `{}` | {} |", preset.name, preset.summary);
            assert!(readme.contains(&row), "README.md lacks the row: {row}");
        }
    }
}
