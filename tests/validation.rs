//! A short run under the Vulkan validation layers, synchronisation included: they must have nothing to say.
//!
//! The layers are chosen by the environment before Vulkan is loaded, so the test starts itself again as a child.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{layers, picture};
use impasto::gpu::{Gpu, GpuChoice, GpuOptions};
use impasto::net::plan::Pooling;
use impasto::transfer::{Config, Convolution, Size, StyleTransfer};
use impasto::weights::builtin::builtin;
use impasto::wgpu;

const LAYER: &str = "VK_LAYER_KHRONOS_validation";
const ROLE: &str = "IMPASTO_VALIDATION_CHILD";
const TEST: &str = "a_run_under_the_validation_layers_gives_no_message";

/// What the layer writes to its log: everything, so that its greeting proves that it was there.
const SETTINGS: &str = "\
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf,info
khronos_validation.enable_message_limit = false
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
";

/// Messages that are known to be wrong, each with the reason.
const FALSE_ALARMS: &[(&str, &str)] = &[];

/// Two iterations with each pooling and each method of convolution, in tiles: every kernel, many submissions, readbacks.
fn child(role: &str) {
    let adapter = std::env::var("IMPASTO_TEST_ADAPTER").map_or(GpuChoice::Any, GpuChoice::Name);
    let options = GpuOptions { choice: adapter, checked: common::checked(), ..GpuOptions::default() };
    let gpu = Gpu::new(&options).unwrap();
    if role == "wrong" {
        wrong_call();
    }
    let kinds = [(Pooling::Max, Convolution::Direct), (Pooling::Average, Convolution::Winograd)];
    for (pooling, convolution) in kinds.into_iter().filter(|_| role == "run") {
        let config = Config {
            size: Size::Native,
            style_size: Some(Size::Native),
            content_layers: layers(&["relu2_2"]),
            style_layers: layers(&["relu1_1", "relu3_1"]),
            tv_weight: 1.0,
            iterations: 2,
            tile: Some(16),
            pooling,
            convolution,
            ..Config::default()
        };
        let mut job =
            StyleTransfer::new(&gpu, &builtin(5), &picture(7, 30, 40), &[picture(31, 30, 40)], config).unwrap();
        while !job.advance(1).unwrap().is_empty() {}
        assert!(job.image().unwrap().rgb.iter().all(|value| value.is_finite()));
    }
    println!("CHILD DONE");
}

/// A buffer without size or usage, past wgpu, whose own validation would catch it.
#[cfg(not(target_vendor = "apple"))]
fn wrong_call() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN)).remove(0);
    let (device, _queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    // SAFETY: the device outlives the call; the call is invalid on purpose, and the layer refuses or the driver ignores it.
    unsafe {
        let hal = device.as_hal::<wgpu::hal::api::Vulkan>().unwrap();
        if let Ok(buffer) = hal.raw_device().create_buffer(&Default::default(), None) {
            hal.raw_device().destroy_buffer(buffer, None);
        }
    }
}

#[cfg(target_vendor = "apple")]
fn wrong_call() {}

/// Runs this test again in role `role` and returns the layer's log.
fn under_the_layer(role: &str, folder: &Path) -> String {
    let (settings, log) = (folder.join("vk_layer_settings.txt"), folder.join(format!("{role}.log")));
    std::fs::write(&settings, format!("{SETTINGS}khronos_validation.log_filename = {}\n", log.display())).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(ROLE, role)
        .env("VK_INSTANCE_LAYERS", LAYER)
        .env("VK_LAYER_SETTINGS_PATH", &settings)
        .env("WGPU_BACKEND", "vulkan")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("CHILD DONE"), "{said}");
    std::fs::read_to_string(log).unwrap_or_default()
}

/// The log's errors, warnings and performance warnings: all but its information, and known false alarms.
fn complaints(log: &str) -> Vec<&str> {
    let messages = log.lines().filter(|line| line.contains("Validation ") && line.contains("MessageID"));
    let serious = messages.filter(|line| !line.contains("Validation Information"));
    serious.filter(|line| !FALSE_ALARMS.iter().any(|(part, _)| line.contains(part))).collect()
}

#[test]
fn a_run_under_the_validation_layers_gives_no_message() {
    if let Ok(role) = std::env::var(ROLE) {
        return child(&role);
    }
    let test = "a run under the Vulkan validation layers";
    let Some(gpu) = common::gpu(test) else { return };
    if !gpu.name().contains("(vulkan") {
        return common::skip(test, "the adapter is not a Vulkan one");
    }
    let folder = tempfile::tempdir().unwrap();
    let log = under_the_layer("run", folder.path());
    if log.is_empty() {
        return common::skip(test, &format!("{LAYER} is not installed (Debian: vulkan-validationlayers)"));
    }
    println!("{log}");
    // The layer's greeting: it was there, and synchronisation validation with it.
    assert!(log.contains("Khronos Validation Layer Active") && log.contains("SYNCHRONIZATION_VALIDATION"), "{log}");
    assert_eq!(complaints(&log), [""; 0]);
    // And it does complain, into this log, when there is a reason.
    let wrong = under_the_layer("wrong", folder.path());
    assert!(complaints(&wrong).iter().any(|line| line.contains("VkBufferCreateInfo")), "{wrong}");
}
