//! The command line of one picture, out of that of many: what its metadata say, so that `impasto rerun` makes it alone.

use std::path::Path;

use clap::CommandFactory;

use super::args::Arguments;

/// Turns the arguments of a command (its name first, the program left out) into those of `stylize` for one content:
/// without the options `left_out`, with `added` in front of the others. What stood first and was no option's value gives
/// its place to the content.
pub(crate) fn of_one(arguments: &[String], content: &Path, left_out: &[&str], added: &[String]) -> Vec<String> {
    let command = Arguments::command();
    let options = arguments.first().and_then(|name| command.find_subcommand(name));
    let takes = |find: &dyn Fn(&clap::Arg) -> bool| {
        let option = options.and_then(|command| command.get_arguments().find(|argument| find(argument)));
        option.is_some_and(|option| option.get_action().takes_values() && !option.is_require_equals_set())
    };
    let mut content = Some(content.to_string_lossy().into_owned());
    let mut kept = vec!["stylize".to_string()];
    kept.extend_from_slice(added);
    let (mut options_end, mut tokens) = (false, arguments.iter().skip(1));
    while let Some(token) = tokens.next() {
        if options_end || token == "-" || !token.starts_with('-') {
            kept.extend(content.take());
        } else if token == "--" {
            options_end = true;
            kept.push(token.clone());
        } else if let Some(long) = token.strip_prefix("--") {
            let (name, attached) = long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            let value =
                (!attached && takes(&|option| option.get_long() == Some(name))).then(|| tokens.next()).flatten();
            if !left_out.contains(&name) {
                kept.push(token.clone());
                kept.extend(value.cloned());
            }
        } else {
            // Short options together, the last with its value attached or following.
            let short = token.char_indices().skip(1).find(|(_, c)| takes(&|option| option.get_short() == Some(*c)));
            let follows = short.is_some_and(|(at, c)| at + c.len_utf8() == token.len());
            kept.push(token.clone());
            kept.extend(if follows { tokens.next().cloned() } else { None });
        }
    }
    // Nothing named it.
    kept.extend(content);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_give_way_to_one_and_every_value_stays_with_its_option() {
        let left_out = ["styles", "shard", "skip-existing", "rows", "keep"];
        let made = |line: &str, added: &[&str]| {
            let split = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
            let added: Vec<String> = added.iter().map(|text| text.to_string()).collect();
            of_one(&split(line), Path::new("x.png"), &left_out, &added).join(" ")
        };
        for (line, added, expected) in [
            ("stylize a.png b.png -s s.png -n 3", &[][..], "stylize x.png -s s.png -n 3"),
            ("stylize -s s.png a b --size 9 c", &[], "stylize -s s.png x.png --size 9"),
            ("stylize -qs s.png -n3 a --size=9", &[], "stylize -qs s.png -n3 x.png --size=9"),
            ("stylize --clamp a --resume b --tv-weight -1", &[], "stylize --clamp x.png --resume --tv-weight -1"),
            ("stylize -s s.png -- a -b", &[], "stylize -s s.png -- x.png"),
            ("stylize a --styles S --shard 1/2 --skip-existing -n 1", &["-s=t"], "stylize -s=t x.png -n 1"),
            ("grid a -s s.png --rows n=1,2 --keep K", &["-n=1"], "stylize -n=1 x.png -s s.png"),
        ] {
            assert_eq!(made(line, added), expected, "{line}");
        }
    }
}
