//! Completion scripts for bash, zsh and fish, made from the tree of commands.

use std::fmt::Write as _;

use crate::args::Arg;
use crate::commands::{self, Node};

/// The shells there is a script for.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for a shell.
pub fn script(shell: &str) -> Option<String> {
    let nodes = commands::tree();
    match shell {
        "bash" => Some(bash(&nodes)),
        "zsh" => Some(zsh(&nodes)),
        "fish" => Some(fish(&nodes)),
        _ => None,
    }
}

fn options(args: &[Arg]) -> impl Iterator<Item = &'static str> {
    args.iter().flat_map(|arg| arg.names).copied().filter(|name| name.starts_with('-'))
}

/// ` action list`: what the scripts call the place that the words before the cursor lead to.
fn place(node: &Node) -> String {
    node.path.iter().map(|word| format!(" {word}")).collect()
}

/// The loop that finds the place: only words that lead on count, so options may stand anywhere.
fn walk(nodes: &[Node], words: &str, first: usize, end: &str) -> String {
    let places: Vec<String> =
        nodes.iter().filter(|node| !node.path.is_empty()).map(|n| format!("'{}'", place(n))).collect();
    format!(
        "  local place='' i\n  for ((i = {first}; i < {end}; i++)); do\n    case \"$place ${{{words}[i]}}\" in\n      {}) \
         place=\"$place ${{{words}[i]}}\" ;;\n    esac\n  done\n",
        places.join("|")
    )
}

fn bash(nodes: &[Node]) -> String {
    let mut cases = String::new();
    for node in nodes {
        let words: Vec<&str> = node.words.iter().map(|(word, _)| *word).chain(options(&node.args)).collect();
        let _ = writeln!(cases, "    '{}') words='{}' ;;", place(node), words.join(" "));
    }
    format!(
        "# bash completion of st2; source it, or put it into /etc/bash_completion.d\n_st2() {{\n{}  local words=''\n  \
         case \"$place\" in\n{cases}  esac\n  \
         COMPREPLY=( $(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\") )\n}}\n\
         complete -o default -F _st2 st2\n",
        walk(nodes, "COMP_WORDS", 1, "COMP_CWORD")
    )
}

/// Within single quotes, where a colon separates a word from its description.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh(nodes: &[Node]) -> String {
    let mut cases = String::new();
    for node in nodes {
        let mut entries: Vec<String> =
            node.words.iter().map(|(word, about)| format!("'{word}:{}'", quoted(about))).collect();
        for arg in node.args.iter().filter(|arg| arg.names[0].starts_with('-')) {
            entries.extend(arg.names.iter().map(|name| format!("'{name}:{}'", quoted(arg.help))));
        }
        let _ = writeln!(cases, "    '{}') entries=({}) ;;", place(node), entries.join(" "));
    }
    format!(
        "#compdef st2\n# zsh completion of st2; put it as _st2 into a folder of $fpath\n_st2() {{\n{}  \
         local -a entries\n  case \"$place\" in\n{cases}  esac\n  _describe st2 entries || _files\n}}\n\
         if [ \"$funcstack[1]\" = _st2 ]; then _st2 \"$@\"; else compdef _st2 st2; fi\n",
        walk(nodes, "words", 2, "CURRENT")
    )
}

fn fish(nodes: &[Node]) -> String {
    let mut out = String::from(
        "# fish completion of st2; put it into ~/.config/fish/completions\n\
         function __st2_words\n  set -l words (commandline -opc)\n  for word in $words[2..-1]\n    \
         string match -q -- '-*' $word; or echo $word\n  end\nend\n\
         function __st2_within\n  set -l words (__st2_words)\n  test (count $words) -ge (count $argv); or return 1\n  \
         for i in (seq (count $argv))\n    test \"$words[$i]\" = \"$argv[$i]\"; or return 1\n  end\nend\n\
         function __st2_at\n  set -l words (__st2_words)\n  test (count $words) -eq (count $argv); \
         and __st2_within $argv\nend\n",
    );
    for node in nodes {
        let path = node.path.join(" ");
        for (word, about) in &node.words {
            let _ = writeln!(out, "complete -c st2 -f -n '__st2_at {path}' -a {word} -d '{}'", fish_quoted(about));
        }
        // global options stand before the command
        let when = if node.path.is_empty() { "__st2_at".to_owned() } else { format!("__st2_within {path}") };
        for arg in node.args.iter().filter(|arg| arg.names[0].starts_with('-')) {
            let names: String = arg.names.iter().map(|name| fish_name(name)).collect();
            let value = if arg.takes_value() { " -r" } else { "" };
            let _ = writeln!(out, "complete -c st2 -n '{when}'{names}{value} -d '{}'", fish_quoted(arg.help));
        }
    }
    out
}

fn fish_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

/// `--long` is `-l long`, `-s` is `-s s`, `-tg` is an old style option.
fn fish_name(name: &str) -> String {
    match name.strip_prefix("--") {
        Some(long) => format!(" -l {long}"),
        None if name.len() == 2 => format!(" -s {}", &name[1..]),
        None => format!(" -o {}", name.trim_start_matches('-')),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Offers bash's completion for a line, the last word being the one under the cursor.
    fn offered(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let program = format!(
            "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _st2; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script("bash").unwrap(),
            words.join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &program]).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_groups_commands_and_options() {
        assert_eq!(offered("st2 act"), ["action", "action-alias"]);
        assert_eq!(offered("st2 --debug rule en"), ["enable"]);
        assert_eq!(offered("st2 execution list --st"), ["--status"]);
        assert_eq!(offered("st2 service-registry member li"), ["list"]);
        assert_eq!(offered("st2 action list -p core --wi"), ["--width"]);
        assert!(offered("st2 --").contains(&"--config-file".to_owned()));
    }

    #[test]
    fn every_script_names_every_command_and_option() {
        for shell in SHELLS {
            let text = script(shell).unwrap();
            for node in commands::tree() {
                for word in node.words.iter().map(|(word, _)| *word) {
                    assert!(text.contains(word), "{shell}: {word}");
                }
                for option in options(&node.args) {
                    let name = if *shell == "fish" { fish_name(option) } else { option.to_owned() };
                    assert!(text.contains(&name), "{shell}: {option}");
                }
            }
        }
        assert!(script("csh").is_none());
    }

    #[test]
    fn shells_that_are_here_can_read_their_script() {
        for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script(shell).unwrap()).unwrap();
            match Command::new(shell).arg(check).arg(file.path()).output() {
                Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
                Err(_) => eprintln!("SKIPPED: {shell} isn't installed"),
            }
        }
    }
}
