//! `impasto weights show`: what the article looks at by hand.

use crate::common::{shared, skip};
use crate::fetch::network;
use crate::folder::Folder;

const FIRST: &str = "[3, 3, 3, 64] = 0.39416704 -0.08419707 -0.03631314 …";

fn show(name: &str) -> Option<(String, Folder)> {
    let test = "weights show of a real file";
    let file = shared(test)?.join(format!("vgg19/{name}"));
    if !file.is_file() {
        skip(test, &format!("no {}", file.display()));
        return None;
    }
    let folder = Folder::new();
    let output = folder.command("weights show").arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    Some((String::from_utf8(output.stdout).unwrap(), folder))
}

/// The lines of layers, whose first word is their number.
fn layers(shown: &str) -> Vec<Vec<&str>> {
    let words = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words[0].parse::<usize>().is_ok()).collect()
}

#[test]
fn all_43_entries_of_the_articles_file_are_shown() {
    let Some((shown, _)) = show("imagenet-vgg-verydeep-19.beta16.PARTIAL.mat") else { return };
    assert!(shown.starts_with("MatConvNet in MATLAB v5, beta16 layout, the article's\n"), "{shown}");
    assert!(shown.contains("variables: layers classes normalization\nmean: 123.68 116.779 103.939 (RGB)\n"), "{shown}");
    assert!(shown.contains("orientation: as trained, rows first"), "{shown}");
    let layers = layers(&shown);
    assert_eq!(layers.len(), 43, "{shown}");
    assert_eq!(layers[0][..3], ["0", "conv1_1", "conv"]);
    assert_eq!(layers[42][..3], ["42", "prob", "softmax"]);
    assert_eq!(layers[4][..3], ["4", "pool1", "pool"]);
    assert!(
        shown.contains(&format!("conv     {FIRST} [1, 64] = 0.73017758 0.06493629 0.03428847 … complete\n")),
        "{shown}"
    );
    let states: Vec<String> = shown
        .lines()
        .filter(|line| line.contains(" conv5_") || line.contains(" conv3_4 "))
        .map(str::to_string)
        .collect();
    assert!(states[0].ends_with("complete"), "{}", states[0]);
    assert!(states[4].ends_with("conv5_4 has one tap of nine, the others are zero: this file is a partial copy"));
    assert!(!shown.contains("reading ended") && !shown.contains("missing:"), "{shown}");
}

#[test]
fn all_43_entries_of_the_later_file_are_shown() {
    let Some((shown, _)) = show("imagenet-vgg-verydeep-19.newformat.PARTIAL.mat") else { return };
    assert!(shown.starts_with("MatConvNet in MATLAB v5, later layout\n"), "{shown}");
    assert!(shown.contains("mean: 123.68 116.779 103.939 (RGB)\n"), "{shown}");
    assert_eq!(layers(&shown).len(), 43, "{shown}");
    assert!(
        shown.contains(&format!("conv     {FIRST} [64, 1] = 0.73017758 0.06493629 0.03428847 … complete\n")),
        "{shown}"
    );
    assert_eq!(shown.matches(" … complete\n").count(), 4, "{shown}");
    assert_eq!(shown.matches("is all zero: this file is a partial copy\n").count(), 12, "{shown}");
}

#[test]
fn a_file_that_is_cut_off_is_shown_as_far_as_it_goes() {
    let Some((shown, folder)) = show("imagenet-vgg-verydeep-19.newformat.GENUINE-first-75776-bytes.mat") else {
        return;
    };
    assert!(shown.starts_with("MatConvNet in MATLAB v5, later layout\n"), "{shown}");
    let layers = layers(&shown);
    assert_eq!(layers.iter().map(|words| words[1]).collect::<Vec<_>>(), ["conv1_1", "relu1_1", "conv1_2"], "{shown}");
    assert!(shown.contains(&format!("{FIRST} [64, 1] = 0.73017758 0.06493629 0.03428847 … complete\n")), "{shown}");
    assert!(shown.contains("[3, 3, 64, 64] the file ends in it, or cannot be read on from here\n"), "{shown}");
    assert!(shown.contains("mean: not found\n"), "{shown}");
    let end = "missing: conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv3_4 conv4_1 conv4_2 conv4_3 conv4_4 conv5_1 conv5_2 \
               conv5_3 conv5_4\nreading ended there: the file is cut off: 75776 bytes are here, at least 534882283 belong \
               to it\n";
    assert!(shown.ends_with(end), "{shown}");
    drop(folder);
}

#[test]
fn safetensors_and_cache_files_are_shown_too() {
    if let Some((shown, _)) = show("vgg19-original-conv1_1-conv3_1.safetensors") {
        assert!(shown.starts_with("safetensors\n"), "{shown}");
        assert!(shown.contains("[64, 3, 3, 3] = 0.39416704 -0.08419707 -0.03631314 … [64] = 0.73017758"), "{shown}");
        assert_eq!(shown.matches(" … complete\n").count(), 5, "{shown}");
    }
    let folder = Folder::new();
    folder.write("net.mat", network());
    folder.done("weights import net.mat --name mine");
    let shown = folder.done("weights show mine").stdout;
    assert!(shown.starts_with("safetensors, impasto's cache file\n"), "{shown}");
    assert!(shown.contains("orientation: [row, column, input, output], as trained\n"), "{shown}");
    assert_eq!(shown.matches(" … complete\n").count(), 3, "{shown}");
    let mut bytes = folder.read("cache/mine.safetensors");
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    folder.write("cache/mine.safetensors", bytes);
    let shown = folder.done("weights show mine").stdout;
    assert!(shown.contains("changed after it was written: it has another digest\n"), "{shown}");
    folder.refuses(
        "weights show style.png",
        3,
        "weights style.png: is a picture (PNG), not weights",
        "give VGG-19 as imagenet-vgg-verydeep-19.mat or as safetensors, or get it with `impasto weights fetch`",
    );
}

#[test]
fn a_damaged_file_is_shown_without_a_panic_wherever_it_is_damaged() {
    let folder = Folder::new();
    let bytes = network();
    for at in (128..1200).step_by(13).chain((1200..bytes.len()).step_by(bytes.len() / 10)) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0xff;
        folder.write("net.mat", &bytes);
        let ended = folder.run("weights show net.mat");
        assert!(matches!(ended.code, Some(0 | 3)) && !ended.stderr.contains("panicked"), "{at}: {}", ended.stderr);
    }
}
