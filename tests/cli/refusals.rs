//! What a run refuses: with the documented exit code, one line that names the file or option, one line that says what to
//! do, and every file as it was before.

use crate::common::{shared, skip};
use crate::folder::{CHEAP, Folder};
use crate::results::npy;

const AGAIN: &str = "copy or download the file again";
const GIVE_VGG: &str =
    "give VGG-19 as imagenet-vgg-verydeep-19.mat or as safetensors, or get it with `impasto weights fetch`";
const SAVE_NPY: &str = "save a float32 array of shape [height, width, 3] with finite values";
const NO_OPTION: &str = "For more information, try '--help'.";
const PAGE: &str = "\n<!DOCTYPE html><html><head><title>404</title></head></html>";

/// The first bytes of a safetensors file.
fn safetensors() -> Vec<u8> {
    let header = br#"{"features.0.weight":{"dtype":"F32","shape":[64,3,3,3],"data_offsets":[0,6912]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header].concat()
}

#[test]
fn a_bad_picture_is_named_with_the_remedy() {
    let folder = Folder::new();
    let png = folder.read("content.png");
    folder.write("empty.png", "");
    folder.write("cut.png", &png[..png.len() * 2 / 3]);
    folder.write("page.jpg", PAGE);
    folder.write("weights.png", safetensors());
    folder.write("notes.txt", "a note");
    std::fs::create_dir(folder.path("album")).unwrap();
    let none = "give pictures that end in .png, .jpg, .webp or .tif, or a folder of them";
    folder.refuses(
        &format!("stylize album -s style.png {CHEAP} -o out"),
        3,
        "picture album: stands for no picture",
        none,
    );
    let run = |options: &str| format!("stylize content.png {options} {CHEAP} -o out.png");
    folder.refuses(&run("-s album"), 3, "picture album: stands for no picture", none);
    folder.refuses(&run("-s style.png --init album"), 3, "picture album: is a folder", "name a file in it");
    let give_weights = "pass it to --weights, and give a picture here";
    for (name, what, hint) in [
        ("absent.png", "no such file", "check the path"),
        ("empty.png", "is empty", AGAIN),
        ("cut.png", "is cut short: the end of the file is missing", AGAIN),
        ("page.jpg", "is a web page, not a picture", "download the picture itself, not the page that shows it"),
        ("weights.png", "is a safetensors file, not a picture", give_weights),
        (
            "notes.txt",
            "is not a picture in a known format",
            "open it in an image editor and save it as PNG, JPEG, WebP or TIFF",
        ),
    ] {
        let error = format!("picture {name}: {what}");
        folder.refuses(&format!("stylize {name} -s style.png {CHEAP} -o out.png"), 3, &error, hint);
        folder.refuses(&format!("stylize content.png -s {name} {CHEAP} -o out.png"), 3, &error, hint);
        folder.refuses(&format!("stylize content.png -s style.png --init {name} {CHEAP} -o out.png"), 3, &error, hint);
    }
}

#[test]
fn a_bad_weight_file_is_named_with_the_remedy() {
    let folder = Folder::new();
    folder.write("empty.mat", "");
    folder.write("page.mat", PAGE);
    let again = "get the whole file again: `impasto weights fetch`";
    let wrong = "the download went wrong: get the file with `impasto weights fetch`";
    for (name, what, hint) in [
        ("style.png", "is a picture (PNG), not weights", GIVE_VGG),
        ("page.mat", "is a web page, not weights", wrong),
        ("empty.mat", "is empty", again),
        ("absent.mat", "no such file", "check the path, or use --weights builtin"),
        (".", "is a folder, not a file", "give the weight file itself"),
    ] {
        let error = format!("weights {name}: {what}");
        folder.refuses(
            &format!("stylize content.png -s style.png {CHEAP} -o out.png --weights {name}"),
            3,
            &error,
            hint,
        );
    }
}

#[test]
fn a_weight_file_that_is_cut_off_is_refused_where_the_missing_layers_are_needed() {
    let test = "a .mat file that is cut off";
    let Some(shared) = shared(test) else { return };
    let genuine = shared.join("vgg19/imagenet-vgg-verydeep-19.newformat.GENUINE-first-75776-bytes.mat");
    let Ok(bytes) = std::fs::read(&genuine) else {
        return skip(test, &format!("no {}", genuine.display()));
    };
    let folder = Folder::new();
    folder.write("cut.mat", bytes);
    folder.refuses(
        &format!("stylize content.png -s style.png {CHEAP} -o out.png --weights cut.mat"),
        3,
        "weights cut.mat: is cut off: 75776 bytes are here, at least 534882283 belong to it",
        "get the whole file again: `impasto weights fetch`",
    );
}

#[test]
fn a_bad_array_to_start_from_is_named_with_the_remedy() {
    let folder = Folder::new();
    let run = |init: &str| format!("stylize content.png -s style.png {CHEAP} -o out.png --init {init}");
    let mut values = vec![0.5; 28 * 40 * 3];
    folder.write("flat.npy", npy(&[28 * 40 * 3], &values));
    folder.write("turned.npy", npy(&[40, 28, 3], &values));
    folder.write("short.npy", &npy(&[28, 40, 3], &values)[..1000]);
    values[77] = f32::NAN;
    folder.write("nan.npy", npy(&[28, 40, 3], &values));
    folder.write("text.npy", "not an array");
    folder.refuses(&run("absent.npy"), 3, "picture absent.npy: no such file", "check the path");
    folder.refuses(&run("flat.npy"), 3, "picture flat.npy: has shape [3360]", SAVE_NPY);
    folder.refuses(&run("nan.npy"), 3, "picture nan.npy: holds NaN or infinity", SAVE_NPY);
    let numpy = "save it with numpy.save(path, numpy.ascontiguousarray(array, dtype='<f4'))";
    folder.refuses(&run("text.npy"), 3, "picture text.npy: is not a NumPy .npy file", numpy);
    let short = "picture short.npy: has 924 bytes of data, which is not shape [28, 40, 3]";
    folder.refuses(&run("short.npy"), 3, short, numpy);
    // A fine array, but not for this size: the option is at fault.
    let fit = "make an array of shape [height, width, 3] in the size of the result";
    folder.fails(&run("turned.npy"), 2, "init: values for 28x40, the result has 40x28", fit);
}

#[test]
fn a_wrong_option_is_named_with_the_remedy() {
    let folder = Folder::new();
    let not_negative = "give a finite number, 0 or more";
    let positive = "give a finite number above 0";
    let finite = "weights are finite and not negative";
    for (options, error, hint) in [
        ("--preset nope", "preset: there is no preset `nope`", "`impasto presets` lists them"),
        ("-n 0", "iterations: 0", "give 1 to 1000000"),
        ("-n 7,0", "iterations: 0", "give 1 to 1000000"),
        ("-n 0,7", "first-iterations: 0", "give 1 to 1000000"),
        (
            "-n 9,7 --first-iterations 8",
            "iterations: 9,7 beside --first-iterations",
            "give the first scale's number once",
        ),
        ("--first-iterations 0", "first-iterations: 0", "give 1 to 1000000"),
        ("--scale-factor 1", "scale-factor: 1", "give 1.1 or more, e.g. 1.4142 or 2"),
        ("--tv-weight NaN", "tv-weight: NaN", not_negative),
        ("--content-weight -1", "content-weight: -1", not_negative),
        ("--style-weight inf", "style-weight: inf", not_negative),
        ("--learning-rate 0", "learning-rate: 0", positive),
        ("--style-scale -0.5", "style-scale: -0.5", positive),
        ("--style-layer-weight-exp 0", "style-layer-weight-exp: 0", positive),
        ("--pooling-scale -2", "pooling-scale: -2", positive),
        ("--pooling-scale NaN", "pooling-scale: NaN", positive),
        ("--tv l1 --tv-weight 0", "tv: its weight is 0", "give --tv-weight as well"),
        ("--style-size 64 --style-scale 2", "style-scale: --style-size leaves nothing to scale", "give one of the two"),
        ("--preset article --tv nine-point", "tv: its weight is 0", "give --tv-weight as well"),
        ("--adam-beta1 1", "adam-beta1: 1", "give a number from 0 up to, but not including, 1"),
        ("--adam-epsilon 0", "adam-epsilon: 0", positive),
        ("--ema 1", "ema: 1", "give a number from 0 up to, but not including, 1"),
        ("--ema -0.5", "ema: -0.5", "give a number from 0 up to, but not including, 1"),
        ("--learning-rate-decay 1.5", "learning-rate-decay: 1.5", "give a number above 0, at most 1, e.g. 0.995"),
        ("--optimizer lbfgs --learning-rate -1", "learning-rate: -1", positive),
        ("--optimizer lbfgs --lbfgs-history 0", "lbfgs-history: 0", "give 1 to 100; 10 is usual"),
        (
            "--precision f16 --convolution winograd",
            "convolution: winograd does not go with maps in half precision",
            "use `auto` or `direct`, or --precision f32",
        ),
        ("--optimizer lbfgs --clamp", "clamp: does not go with L-BFGS", "use Adam, or leave it out"),
        (
            "--optimizer lbfgs --normalize-gradients",
            "normalize-gradients: does not go with L-BFGS",
            "use Adam, or leave it out",
        ),
        (
            "--optimizer lbfgs --adam-beta1 0.8",
            "adam-beta1: is nothing that L-BFGS knows, which is the optimiser",
            "leave it out, or choose --optimizer adam",
        ),
        (
            "--optimizer lbfgs --learning-rate-decay 0.9",
            "learning-rate-decay: is nothing that L-BFGS knows, which is the optimiser",
            "leave it out, or choose --optimizer adam",
        ),
        (
            "--lbfgs-history 5",
            "lbfgs-history: is nothing that Adam knows, which is the optimiser",
            "leave it out, or choose --optimizer lbfgs",
        ),
        ("--mean 1,2,inf", "mean: [1.0, 2.0, inf]", "give three finite numbers, e.g. 123.68,116.779,103.939"),
        (
            "--size 65535x65535",
            "size: 65535x65535 is too large",
            "give a smaller one: pictures have at most 89 megapixels",
        ),
    ] {
        // Named once at most.
        let cheap = if options.contains("--preset") { CHEAP.replace("--preset plain ", "") } else { CHEAP.into() };
        folder.refuses(&format!("stylize content.png -s style.png {cheap} -o out.png {options}"), 2, error, hint);
    }
    for (layers, error, hint) in [
        ("--style-layers relu1_1=NaN", "style-layers: weight NaN of relu1_1", finite),
        ("--content-layers relu1_1=-2", "content-layers: weight -2 of relu1_1", finite),
        (
            "--style-layers relu1_1,relu1_2,relu1_1=2",
            "style-layers: relu1_1 is named twice",
            "name each layer once, as layer=weight",
        ),
        (
            "--style-layers , --content-layers ,",
            "style-layers: no layer is left to optimise",
            "give --style-layers or --content-layers, e.g. relu1_2,relu2_2",
        ),
    ] {
        folder.refuses(&format!("stylize content.png -s style.png --device cpu -o out.png {layers}"), 2, error, hint);
    }
}

#[test]
fn a_wrong_line_of_a_configuration_file_is_named_with_the_remedy() {
    let folder = Folder::new();
    let names = "keys are the options' names without dashes before them: see `impasto stylize --help`";
    let takes = "give what the option takes: see `impasto stylize --help`";
    let lines = "write lines key = value, as `impasto presets --show draft` prints them";
    let sizes = "give the longest side as 512, exact sides as 640x480, or native";
    for (text, error, hint) in [
        ("size = 64\n\ncolour = 3\n", "my.toml:3: there is no option `colour`", names),
        ("config = \"other.toml\"", "my.toml:1: there is no option `config`", names),
        ("style_weight = 3", "my.toml:1: there is no option `style_weight`", names),
        ("# mine\nsize = 0", &format!("my.toml:2: invalid value '0' for '--size <SIZE>': {sizes}"), takes),
        ("tv = \"l3\"", "my.toml:1: invalid value 'l3' for '--tv <TV>'", takes),
        ("quiet = 1", "my.toml:1: quiet is either true or false", "write true or false"),
        ("[size]\nlongest = 3", "my.toml:1: size takes no such value", "give a number, a text, or a list of them"),
        ("size = 64\nsize = 65", "my.toml:2: duplicate key", lines),
        ("size = 64\nseed =", "my.toml:2: string values must be quoted, expected literal string", lines),
    ] {
        folder.write("my.toml", text);
        let run = "stylize content.png -s style.png --device cpu -o out.png --config my.toml";
        folder.refuses(run, 2, &format!("config: {error}"), hint);
    }
    folder.refuses(
        "stylize content.png -s style.png --device cpu -o out.png --config absent.toml",
        2,
        "config: absent.toml: no such file",
        "check the path",
    );
    folder.refuses(
        "presets --show nope",
        2,
        "show: there is no preset `nope`",
        &format!(
            "choose one of {}",
            impasto::transfer::presets::PRESETS.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
        ),
    );
}

#[test]
fn an_argument_that_cannot_be_read_is_named_with_what_can() {
    let folder = Folder::new();
    let sizes = "give the longest side as 512, exact sides as 640x480, or native";
    let means = "give vgg, one number as 128, or three as 123.68,116.779,103.939";
    for (option, value, name, remedy) in [
        ("--size", "0", "<SIZE>", sizes),
        ("--size", "-5", "<SIZE>", sizes),
        ("--size", "640x", "<SIZE>", sizes),
        ("--size", "large", "<SIZE>", sizes),
        ("--mean", "1,2", "<vgg|N|R,G,B>", means),
        ("--mean", "-1,x,3", "<vgg|N|R,G,B>", means),
        ("--min-scale", "0", "<N|none>", "give the longest side of the smallest scale, e.g. 128, or none"),
        ("--checkpoint-every", "-1", "<SECONDS>", "give seconds, 0 to 1000000, or use --no-checkpoint"),
        ("--ema", "much", "<DECAY>", "invalid float literal"),
        ("--style-size", "0", "<SIZE|auto>", &format!("{sizes}, or auto")),
        ("--tile", "0", "<N|auto>", "give the edge of a tile in pixels, 32 or more, e.g. 512, or auto"),
        (
            "--style-layers",
            "relu9_9",
            "<LAYER[=WEIGHT],…>",
            "no layer `relu9_9`: layers are relu1_1 relu1_2 relu2_1 relu2_2 relu3_1 … relu3_4 … relu5_4",
        ),
        ("--content-layers", "relu1_1=x", "<LAYER[=WEIGHT],…>", "`x` is not a number, in `relu1_1=x`"),
    ] {
        folder.misused(
            &format!("stylize content.png -s style.png --device cpu -o out.png {option} {value}"),
            &format!("invalid value '{value}' for '{option} {name}': {remedy}"),
        );
    }
    for (option, value) in
        [("--style-loss", "mse"), ("--tv", "l3"), ("--pooling", "min"), ("--convolution", "fft"), ("--precision", "f8")]
    {
        let run = format!("stylize content.png -s style.png --device cpu -o out.png {option} {value}");
        let ended = folder.run(&run);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!("error: invalid value '{value}' for '{option} <")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("possible values: "), "{}", ended.stderr);
    }
    folder.misused(
        "stylize content.png -s style.png -o out.png --edge mirror",
        "invalid value 'mirror' for '--edge <EDGE>'",
    );
    for text in ["x", "1,2,3", "5,", "-1"] {
        folder.misused(
            &format!("stylize content.png -s style.png -o out.png -n {text}"),
            &format!("invalid value '{text}' for '--iterations <N|FIRST,N>': give N, or FIRST,N, e.g. 1000,500"),
        );
    }
    folder.misused("stylize content.png -s style.png -o out.png --colour", "unexpected argument '--colour' found");
    for (options, error) in [
        ("--optimizer sgd", "invalid value 'sgd' for '--optimizer <OPTIMIZER>'"),
        ("--clamp=maybe", "invalid value 'maybe' for '--clamp[=<true|false>]'"),
        ("--no-checkpoint --resume", "the argument '--no-checkpoint' cannot be used with '--resume[=<FILE>]'"),
        (
            "--no-checkpoint --checkpoint-every 5",
            "the argument '--no-checkpoint' cannot be used with '--checkpoint-every <SECONDS>'",
        ),
    ] {
        folder.misused(&format!("stylize content.png -s style.png -o out.png {options}"), error);
    }
    folder.misused("stylize content.png", "the following required arguments were not provided:");
    folder.misused("paint", "unrecognized subcommand 'paint'");
    let ended = folder.run("stylize content.png -o out.png");
    assert!(ended.stderr.contains("  --style <STYLE>\n") && ended.stderr.ends_with(&format!("{NO_OPTION}\n")));
}

#[test]
fn a_device_that_is_not_there_is_named_and_exits_with_4() {
    let folder = Folder::new();
    for (device, wish) in
        [("no_such_adapter", "no adapter is named `no_such_adapter`"), ("99", "no adapter has the number 99")]
    {
        let before = folder.names();
        let ended = folder.run(&format!("stylize content.png -s style.png -n 1 -o out.png --device {device}"));
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        // What was found depends on the machine, and drivers may print lines of their own before ours.
        let lines: Vec<&str> = ended.stderr.lines().rev().take(2).collect();
        assert_eq!(lines[0], "hint: `impasto devices` lists what there is; `--device cpu` always works");
        assert!(lines[1].starts_with(&format!("error: no usable device: {wish} (found: ")), "{}", ended.stderr);
        assert_eq!(folder.names(), before);
    }
}

#[test]
fn an_existing_file_is_never_replaced_by_accident() {
    let folder = Folder::new();
    folder.write("old.png", "old");
    folder.write("new_2.png", "old");
    folder.write("old.jsonl", "old");
    let run = |options: &str| format!("stylize content.png -s style.png {CHEAP} -n 4 {options}");
    let (replace, other) = ("pass --overwrite to replace it", "pass --overwrite to replace it, or choose another name");
    folder.refuses(&run("-o old.png"), 1, "output old.png: already exists", other);
    folder.refuses(&run("-o new.png --save-every 1"), 1, "output new_2.png: already exists", other);
    folder.refuses(&run("-o new.png --log old.jsonl"), 1, "output old.jsonl: already exists", replace);
    folder.refuses("demo --size 16 -n 1 --device cpu -o old.png", 1, "output old.png: already exists", other);
}

#[test]
fn an_input_is_never_replaced_even_when_asked() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("sub")).unwrap();
    for name in ["out_2.png", "init.png"] {
        std::fs::copy(folder.path("content.png"), folder.path(name)).unwrap();
    }
    folder.write("init.npy", npy(&[28, 40, 3], &[0.0; 28 * 40 * 3]));
    folder.write("weights.mat", "some weights");
    let read = "is one of the files that the run reads";
    let twice = "is named for two of the run's files";
    let hint = "choose another name: this one is never replaced";
    for (output, what, options) in [
        ("content.png", read, "-o content.png"),
        ("style.png", read, "-o style.png"),
        ("sub/../content.png", read, "-o sub/../content.png"),
        ("init.png", read, "-o init.png --init init.png"),
        ("out_2.png", read, "-o out.png --save-every 2 --init out_2.png"),
        ("content.png", read, "-o out.png --log content.png"),
        ("init.npy", read, "-o out.png --log init.npy --init init.npy"),
        ("weights.mat", read, "-o out.png --log weights.mat --weights weights.mat"),
        ("./out.png", twice, "-o out.png --log ./out.png"),
        ("new_3.png", twice, "-o new.png --save-every 3 --log new_3.png"),
    ] {
        let error = format!("output {output}: {what}");
        folder.refuses(
            &format!("stylize content.png -s style.png {CHEAP} -n 4 --overwrite {options}"),
            1,
            &error,
            hint,
        );
    }
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_run() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("sub.png")).unwrap();
    folder.write("file", "");
    let extension = "end it in .png, .jpg, .webp or .tif";
    let create = "create the folder first";
    for (output, what, hint) in [
        ("missing/out.png", "its folder does not exist", create),
        ("out", "has no extension to tell its format", extension),
        ("out.bmp", "`.bmp` is not supported", extension),
        ("out.png.part", "`.part` is not supported", extension),
        ("sub.png", "is a folder", "add a file name, for example out.png"),
        #[cfg(unix)]
        ("file/out.png", "its folder is a file", "choose another path"),
        #[cfg(target_os = "linux")]
        ("/proc/out.png", "its folder is not writable", "choose a folder that you may write to"),
    ] {
        let error = format!("output {output}: {what}");
        folder.refuses(&format!("stylize content.png -s style.png {CHEAP} -n 1 -o {output}"), 1, &error, hint);
        folder.refuses(&format!("demo --size 16 --device cpu -n 1 -o {output}"), 1, &error, hint);
    }
    let run = format!("stylize content.png -s style.png {CHEAP} -n 1 -o out.png --log");
    folder.refuses(
        &format!("{run} missing/log.jsonl"),
        1,
        "output missing/log.jsonl: its folder does not exist",
        create,
    );
}

#[test]
fn a_run_that_diverges_says_which_term_and_leaves_the_start_if_that_is_all() {
    let folder = Folder::new();
    let diverges = |options: &str, what: &str| {
        let ended = folder
            .run(&format!("stylize content.png -s style.png --device cpu --preset plain --size native {options}"));
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let hint = "hint: lower --learning-rate, or the weights of the losses".to_string();
        assert_eq!(ended.last_lines(), [format!("error: {what}"), hint]);
        assert!(ended.stderr.contains("the picture after 0 iterations is in out.png\n"), "{}", ended.stderr);
        let [left, start] = ["out.png", "content.png"].map(|name| image::open(folder.path(name)).unwrap().into_rgb8());
        assert!(left == start);
        std::fs::remove_file(folder.path("out.png")).unwrap();
    };
    let shallow = "--content-layers relu1_2 --style-layers relu1_1,relu1_2";
    diverges(&format!("{shallow} -n 5 -o out.png --learning-rate 1e30"), "content/relu1_2 diverged at iteration 1");
    // The last step's damage shows in no loss, and a ReLU hides NaN from those after it.
    let hidden = "--style-layers relu2_1 --content-layers relu2_1 --tv-weight 0 -o out.png --learning-rate 1e38";
    for steps in [1, 5] {
        diverges(&format!("{hidden} -n {steps}"), &format!("the picture diverged at iteration {steps}"));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_on_a_full_disk_fails_the_run_but_not_its_picture() {
    let folder = Folder::new();
    let run = format!("stylize content.png -s style.png {CHEAP} -n 3 -o out.png --overwrite --log /dev/full");
    let ended = folder.run(&run);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("error: output /dev/full: cannot be written: "), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("hint: choose another place\n"), "{}", ended.stderr);
    folder.stylize("-n 3 -o whole.png");
    assert_eq!(folder.read("out.png"), folder.read("whole.png"));
}
