//! `impasto devices` and `impasto presets`.

use impasto::cpu::instructions;
use impasto::gpu::{AdapterReport, FEATURES, GpuChoice, adapters, preferred};
use impasto::transfer::presets::PRESETS;

use super::out;

/// Lists adapters, the CPU engine, and which one `auto` takes.
pub(crate) fn devices() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for line in lines(&adapters(), threads) {
        out!("{line}");
    }
}

fn lines(adapters: &[AdapterReport], threads: usize) -> Vec<String> {
    let kinds: Vec<&str> = adapters.iter().map(|adapter| adapter.kind).collect();
    let auto = preferred(&kinds, &GpuChoice::Hardware);
    let mark = |taken: bool| if taken { "  <- auto" } else { "" };
    let mut lines = Vec::new();
    for (index, adapter) in adapters.iter().enumerate() {
        let AdapterReport { name, backend, kind, .. } = adapter;
        lines.push(format!("{index}: {name} ({backend}, {kind}): GPU engine, f32{}", mark(auto == Some(index))));
        lines.push(format!("   driver {}", if adapter.driver.is_empty() { "unknown" } else { &adapter.driver }));
        lines.push(format!(
            "   largest buffer {} MiB, largest binding {} MiB, workgroup memory {} KiB",
            adapter.max_buffer >> 20,
            adapter.max_binding >> 20,
            adapter.workgroup_memory >> 10
        ));
        let has = |name| if adapter.features.contains(&name) { "yes" } else { "no" };
        lines.push(format!("   {}", FEATURES.map(|name| format!("{name}: {}", has(name))).join(", ")));
        if !adapter.cooperative_matrices.is_empty() {
            lines.push(format!("   matrices {}", adapter.cooperative_matrices.join(", ")));
        }
    }
    lines.push(format!("cpu: CPU engine, f32, {threads} threads, {}{}", instructions(), mark(auto.is_none())));
    if auto.is_none() && kinds.contains(&"software") {
        let why = "A software renderer is slower than the CPU engine, so `auto` never takes it; `--device gpu` does.";
        lines.push(why.into());
    }
    lines
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

    fn adapter(name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            driver: String::new(),
            max_binding: 2 << 30,
            max_buffer: 4 << 30,
            workgroup_memory: 48 << 10,
            features: Vec::new(),
            cooperative_matrices: Vec::new(),
        }
    }

    #[test]
    fn everything_known_of_an_adapter_is_listed_and_one_is_marked() {
        let mut arc = adapter("arc", "discrete");
        arc.features = vec!["f16", "cooperative matrices"];
        arc.cooperative_matrices = vec!["16x16x16 f16 -> f32".into(), "8x8x8 f32 -> f32".into()];
        arc.driver = "anv 25.1".into();
        let listed = lines(&[adapter("llvmpipe", "software"), arc], 6);
        let expected = [
            "0: llvmpipe (vulkan, software): GPU engine, f32",
            "   driver unknown",
            "   largest buffer 4096 MiB, largest binding 2048 MiB, workgroup memory 48 KiB",
            "   f16: no, subgroups: no, cooperative matrices: no, timestamps: no",
            "1: arc (vulkan, discrete): GPU engine, f32  <- auto",
            "   driver anv 25.1",
            "   largest buffer 4096 MiB, largest binding 2048 MiB, workgroup memory 48 KiB",
            "   f16: yes, subgroups: no, cooperative matrices: yes, timestamps: no",
            "   matrices 16x16x16 f16 -> f32, 8x8x8 f32 -> f32",
            &format!("cpu: CPU engine, f32, 6 threads, {}", instructions()),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn without_hardware_the_cpu_engine_is_marked() {
        for (adapters, last) in [
            (vec![adapter("llvmpipe", "software")], "A software"),
            (vec![adapter("venus", "virtual")], "cpu: "),
            (vec![], "cpu: "),
        ] {
            let listed = lines(&adapters, 2);
            let marked: Vec<&String> = listed.iter().filter(|line| line.ends_with("  <- auto")).collect();
            assert!(marked.len() == 1 && marked[0].starts_with("cpu: "), "{listed:?}");
            assert!(listed.last().is_some_and(|line| line.starts_with(last)), "{listed:?}");
        }
    }

    #[test]
    fn the_readme_has_every_preset_with_its_summary() {
        let readme = include_str!("../../README.md");
        for preset in PRESETS {
            let row = format!("| `{}` | {} |", preset.name, preset.summary);
            assert!(readme.contains(&row), "README.md lacks the row: {row}");
        }
    }
}
