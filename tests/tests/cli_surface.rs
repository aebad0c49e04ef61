//! Every command, sub-command and option of StackStorm's client is one of ours.
//!
//! StackStorm's client tells itself what it takes: a few lines of Python walk its parser. Ours is asked for the help of
//! each command that these lines name.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{binary, stackstorms_client};
use serde::Deserialize;

/// Prints `[{"path": [...], "options": [...], "arguments": n}]`.
const WALK: &str = r#"
import argparse, json
from st2client.shell import Shell
found = []
def walk(parser, path):
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    options = [name for a in parser._actions for name in a.option_strings]
    arguments = [a.dest for a in parser._actions if not a.option_strings and a not in groups]
    found.append({"path": path, "options": options, "arguments": len(arguments)})
    for group in groups:
        for name, child in group.choices.items():
            walk(child, path + [name])
walk(Shell().parser, [])
print(json.dumps(found))
"#;

#[derive(Debug, Deserialize)]
struct Entry {
    path: Vec<String>,
    options: Vec<String>,
    arguments: usize,
}

#[test]
fn every_command_and_option_is_there() -> Result<()> {
    let Some(theirs) = stackstorms_client()? else { return Ok(()) };
    let python = theirs.parent().context("the client's folder")?.join("python");
    let walked = Command::new(python).args(["-c", WALK]).output()?;
    ensure!(walked.status.success(), "{}", String::from_utf8_lossy(&walked.stderr));
    let entries: Vec<Entry> = serde_json::from_slice(&walked.stdout)?;
    ensure!(entries.len() > 100, "only {} commands were found", entries.len());
    let mut problems = Vec::new();
    for entry in &entries {
        problems.extend(missing(entry)?);
    }
    println!("{} commands walked", entries.len());
    ensure!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

/// What our help of a command lacks.
fn missing(entry: &Entry) -> Result<Vec<String>> {
    let name = entry.path.join(" ");
    let output = Command::new(binary("st2")).args(&entry.path).arg("--help").env("COLUMNS", "400").output()?;
    let help = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Ok(vec![format!("st2 {name}: {}", String::from_utf8_lossy(&output.stderr).trim())]);
    }
    let words: BTreeSet<&str> = help.split([' ', ',', '\n', '[', ']']).collect();
    let mut problems: Vec<String> = entry
        .options
        .iter()
        .filter(|option| !words.contains(option.as_str()))
        .map(|option| format!("st2 {name}: no {option}"))
        .collect();
    let arguments = help.split("\npositional arguments:\n").nth(1).and_then(|rest| rest.split("\n\n").next());
    let ours = arguments.map_or(0, |text| text.lines().count());
    if ours != entry.arguments {
        problems.push(format!("st2 {name}: {} arguments, ours has {ours}", entry.arguments));
    }
    Ok(problems)
}
