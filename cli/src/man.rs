//! Manual pages, made from the tree of commands: `st2(1)` and one page for each command of the first level.

use std::fmt::Write as _;
use std::path::Path;

use crate::args::Arg;
use crate::commands::{self, Node};
use crate::error::{Error, Result};

/// Writes all pages into a folder, which is made if need be.
pub fn write(folder: &Path) -> Result<usize> {
    let failed =
        |path: &Path, error: std::io::Error| Error::failed(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let pages = pages();
    for (name, text) in &pages {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(pages.len())
}

/// The pages by file name.
pub fn pages() -> Vec<(String, String)> {
    let nodes = commands::tree();
    let mut pages = vec![("st2.1".to_owned(), overview(&nodes))];
    for node in nodes.iter().filter(|node| node.path.len() == 1) {
        let below: Vec<&Node> = nodes.iter().filter(|other| other.path.first() == node.path.first()).collect();
        pages.push((format!("st2-{}.1", node.path[0]), page(node, &below)));
    }
    pages
}

/// Text as roff reads it: no line may begin with a dot or quote, no dash may become a hyphen.
fn text(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn head(name: &str, about: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let about = text(about.trim_end_matches('.'));
    format!(
        ".TH \"{}\" \"1\" \"\" \"st2 {version}\" \"User commands\"\n.SH NAME\n{} \\- {about}\n",
        name.to_uppercase(),
        text(name)
    )
}

fn arguments(out: &mut String, args: &[Arg]) {
    for arg in args {
        let names: Vec<String> = arg.names.iter().map(|name| format!("\\fB{}\\fR", text(name))).collect();
        let values = if arg.names[0].starts_with('-') { arg.values() } else { String::new() };
        let gap = if values.is_empty() { "" } else { " " };
        let _ = writeln!(out, ".TP\n{}{gap}{}\n{}", names.join(", "), text(&values), text(arg.help));
    }
}

fn overview(nodes: &[Node]) -> String {
    let mut out = head("st2", "command line of the automation platform");
    out.push_str(".SH SYNOPSIS\n.B st2\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIsubcommand\\fR] [\\fIarguments\\fR]\n");
    out.push_str(".SH COMMANDS\n");
    let root = nodes.iter().find(|node| node.path.is_empty());
    for (word, about) in root.into_iter().flat_map(|root| &root.words) {
        let _ = writeln!(out, ".TP\n.BR st2\\-{} (1)\n{}", text(word), text(about));
    }
    out.push_str(".SH OPTIONS\nThey stand before the command.\n");
    arguments(&mut out, root.map(|root| root.args.as_slice()).unwrap_or_default());
    out.push_str(".SH ENVIRONMENT\n");
    for (name, about) in VARIABLES {
        let _ = writeln!(out, ".TP\n.B {}\n{}", text(name), text(about));
    }
    out.push_str(".SH FILES\n");
    for (name, about) in FILES {
        let _ = writeln!(out, ".TP\n.I {}\n{}", text(name), text(about));
    }
    out.push_str(".SH EXIT STATUS\n");
    for (code, about) in CODES {
        let _ = writeln!(out, ".TP\n.B {code}\n{}", text(about));
    }
    out
}

const VARIABLES: &[(&str, &str)] = &[
    ("ST2_BASE_URL", "Base URL of all services."),
    ("ST2_API_URL", "URL of the API with its version."),
    ("ST2_AUTH_URL", "URL of the authentication service."),
    ("ST2_STREAM_URL", "URL of the event stream."),
    ("ST2_API_VERSION", "Version of the API: v1."),
    ("ST2_AUTH_TOKEN", "Access token."),
    ("ST2_API_KEY", "API key."),
    ("ST2_CACERT", "CA bundle for TLS."),
    ("ST2_BASIC_AUTH", "user:password for a proxy in front of the API."),
    ("ST2_CONFIG_FILE", "Configuration file."),
    ("ST2_CLI_SKIP_CONFIG", "1 to ignore the configuration file."),
    ("ST2_COLORIZE", "Any value turns colours off."),
];
const FILES: &[(&str, &str)] = &[
    ("~/.st2/config", "Configuration: sections general, cli, credentials, api, auth, stream."),
    ("~/.st2/token-USER", "The token of the last login."),
];
const CODES: &[(&str, &str)] = &[
    ("0", "It worked."),
    ("1", "It didn't, or an execution that was waited for has failed."),
    ("2", "The command line is wrong, or a change was refused."),
];

fn page(node: &Node, below: &[&Node]) -> String {
    let name = format!("st2-{}", node.path[0]);
    let mut out = head(&name, node.about.as_str());
    out.push_str(".SH SYNOPSIS\n");
    for leaf in below.iter().filter(|leaf| leaf.words.is_empty()) {
        let arguments: Vec<String> =
            leaf.args.iter().filter(|arg| !arg.names[0].starts_with('-')).map(|arg| text(&arg.values())).collect();
        let _ = writeln!(out, ".B st2 {}\n[\\fIoptions\\fR] {}\n.br", text(&leaf.path.join(" ")), arguments.join(" "));
    }
    for leaf in below.iter().filter(|leaf| leaf.words.is_empty()) {
        let _ = writeln!(out, ".SH \"{}\"\n{}", text(&leaf.path.join(" ")).to_uppercase(), text(&leaf.about));
        arguments(&mut out, &leaf.args);
    }
    out.push_str(".SH SEE ALSO\n.BR st2 (1)\n");
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn every_command_has_its_place_in_a_page() {
        let pages = pages();
        let whole: String = pages.iter().map(|(_, text)| text.as_str()).collect();
        for node in commands::tree().iter().filter(|node| node.words.is_empty()) {
            assert!(whole.contains(&format!(".B st2 {}\n", text(&node.path.join(" ")))), "{:?}", node.path);
        }
        assert!(pages.iter().any(|(name, _)| name == "st2-rule-enforcement.1"));
    }

    #[test]
    fn groff_finds_nothing_to_complain_about() {
        for (name, text) in pages() {
            let mut command = Command::new("groff");
            command.args(["-man", "-ww", "-Tutf8", "-z"]).stdin(Stdio::piped()).stderr(Stdio::piped());
            let Ok(mut child) = command.spawn() else { return eprintln!("SKIPPED: groff isn't installed") };
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        }
    }

    #[test]
    fn lines_that_roff_would_take_for_commands_are_kept() {
        assert_eq!(text(".x"), "\\&.x");
        assert_eq!(text("a\\b-c"), "a\\eb\\-c");
    }
}
