//! Jobs on one device and network: what is kept between them changes nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{layers, picture};
use impasto::cpu::Cpu;
use impasto::transfer::{Config, Inputs, Orientation, Size, Studio, StyleTransfer};
use impasto::weights::builtin::builtin;

fn finished(mut job: StyleTransfer) -> Vec<u32> {
    while !job.advance(u32::MAX).unwrap().is_empty() {}
    job.image().unwrap().rgb.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_job_of_a_studio_has_the_bits_of_a_job_by_itself_whatever_came_before() {
    let (contents, styles) = ([picture(1, 28, 40), picture(2, 33, 24)], [picture(3, 36, 30), picture(4, 23, 41)]);
    let base = Config { size: Size::Longest(24), iterations: 1, min_scale: Some(17), ..Config::default() };
    let shallow = Config { content_layers: layers(&["relu1_1"]), style_layers: layers(&["relu1_2"]), ..base };
    // Deeper, turned, in another size, and as the first again.
    let configs = [
        shallow.clone(),
        Config { style_layers: layers(&["relu1_2", "relu2_1"]), ..shallow.clone() },
        Config { orientation: Orientation::Article, ..shallow.clone() },
        Config { style_scale: vec![0.7], ..shallow.clone() },
        shallow,
    ];
    let depth = configs.iter().map(Config::depth).max().unwrap();
    let mut studio = Studio::new(Box::new(Cpu), builtin(depth));
    for config in &configs {
        for (content, style) in contents.iter().flat_map(|content| styles.iter().map(move |style| (content, style))) {
            let style = std::slice::from_ref(style);
            let shared = finished(studio.start(&Inputs::new(content, style), config.clone()).unwrap());
            let alone = StyleTransfer::new(&Cpu, &builtin(config.depth()), content, style, config.clone());
            assert!(shared == finished(alone.unwrap()), "{config:?}");
            assert_eq!(studio.digest(config), builtin(config.depth()).digest());
        }
    }
}
