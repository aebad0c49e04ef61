//! From an alias's format to a regular expression, and from a command to parameters (spec/chatops.md §2, §3).

use std::sync::LazyLock;

use expr::pyregex::{Flags, PyRegex};
use model::Object;
use regex::Regex;
use serde_json::Value;

use super::anchors;

/// Why a command gives no parameters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("No value supplied and no default value found.")]
    NoValue,
    #[error("Command \"{command}\" doesn't match format string \"{format}\"")]
    NoMatch { command: String, format: String },
    /// The format is no regular expression, or matching it takes too long.
    #[error("Format string \"{format}\" can't be used: {reason}")]
    Broken { format: String, reason: String },
}

/// A format, ready to match.
#[derive(Debug)]
pub struct Pattern {
    format: String,
    regex: PyRegex,
    /// Names of the groups.
    names: Vec<String>,
    /// Optional parameters with their defaults.
    defaults: Vec<(String, String)>,
}

/// A compiled pattern of this file.
fn fixed(pattern: &str) -> Regex {
    #[allow(clippy::expect_used, reason = "the patterns below are literals that the tests compile")]
    Regex::new(pattern).expect("a literal pattern")
}

static OPTIONAL: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r#"(?s)(?<space>\s*)\{\{\s*(?<name>[^\s{}=]+?)\s*=\s*(?<default>""|''|".+?"|'.+?'|\{.+?\}|.+?)\s*\}\}"#)
});
static REQUIRED: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?s)(?<space>\s*)\{\{\s*(?<name>[^\s{}]+?)\s*\}\}"));
/// `key=value`, the value as short as what follows lets it be.
const PAIR: &str = r#"[^\s=]+=(?:""|''|".+?"|'.+?'|\{.+?\}|\S+?)"#;
/// Pairs from their first one to the end of the command.
static PAIRS: LazyLock<Regex> = LazyLock::new(|| fixed(&format!(r"(?s)(?:^|\s){PAIR}(?:\s+{PAIR})*\s*$")));
/// The first of them, and the others.
static FIRST: LazyLock<Regex> = LazyLock::new(|| {
    let pair = PAIR.replacen("[^\\s=]+=", "(?<key>[^\\s=]+)=(?<value>", 1);
    fixed(&format!(r"(?s)^\s*{pair})(?<others>(?:\s+{PAIR})*)\s*$"))
});

fn value_group(space: &str, name: &str) -> String {
    format!(r#"{space}["']?(?P<{name}>(?:(?<=').+?(?=')|(?<=").+?(?=")|{{.+?}}|.+?))["']?"#)
}

impl Pattern {
    pub fn new(format: &str) -> Result<Self, PatternError> {
        let mut defaults = Vec::new();
        let optional = OPTIONAL.replace_all(format, |found: &regex::Captures<'_>| {
            let (name, default) = (&found["name"], unquoted(&found["default"]));
            defaults.push((name.to_owned(), default.to_owned()));
            format!("(?:{})?", value_group(&found["space"], name))
        });
        let parsed =
            REQUIRED.replace_all(&optional, |found: &regex::Captures<'_>| value_group(&found["space"], &found["name"]));
        let mut text = parsed.into_owned();
        let (begins, ends) = (anchors::begins(&text), anchors::ends(&text));
        if !begins {
            text.insert_str(0, r"^\s*");
        }
        if !ends {
            text.push_str(r"\s*$");
        }
        let flags = Flags { dot_all: true, ..Flags::default() };
        let broken = |reason: String| PatternError::Broken { format: format.to_owned(), reason };
        let regex = PyRegex::new(&text, flags).map_err(|error| broken(error.to_string()))?;
        let names = regex.capture_names().flatten().map(str::to_owned).collect();
        Ok(Self { format: format.to_owned(), regex, names, defaults })
    }

    /// The parameters that a command gives.
    pub fn extract(&self, command: &str) -> Result<Object, PatternError> {
        let (text, pairs) = split_pairs(command);
        let found = self.matches(&text)?.into_iter().next();
        let matched = found.is_some();
        let parameters = self.complete(found.unwrap_or_default(), &pairs);
        let is_given = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        if !self.format.is_empty() && text.trim().is_empty() && !parameters.values().any(is_given) && !matched {
            return Err(PatternError::NoValue);
        }
        if matched { Ok(parameters) } else { Err(self.no_match(command)) }
    }

    /// As [`Pattern::extract`] for each place of the command that matches.
    pub fn extract_all(&self, command: &str) -> Result<Vec<Object>, PatternError> {
        let (text, pairs) = split_pairs(command);
        let all = self.matches(&text)?;
        if all.is_empty() {
            return Err(self.no_match(command));
        }
        Ok(all.into_iter().map(|found| self.complete(found, &pairs)).collect())
    }

    fn no_match(&self, command: &str) -> PatternError {
        PatternError::NoMatch { command: command.to_owned(), format: self.format.clone() }
    }

    /// Named groups of each match; one that took no part is null.
    fn matches(&self, text: &str) -> Result<Vec<Object>, PatternError> {
        let padded = format!(" {text} ");
        let mut all = Vec::new();
        for captures in self.regex.captures_iter(&padded) {
            let captures = captures
                .map_err(|error| PatternError::Broken { format: self.format.clone(), reason: error.to_string() })?;
            let group = |name: &String| {
                let value = captures.name(name).map_or(Value::Null, |group| group.as_str().into());
                (name.clone(), value)
            };
            all.push(self.names.iter().map(group).collect());
        }
        Ok(all)
    }

    fn complete(&self, mut found: Object, pairs: &[(String, String)]) -> Object {
        for (name, default) in &self.defaults {
            let is_empty = found.get(name).and_then(Value::as_str).is_none_or(str::is_empty);
            if is_empty {
                found.insert(name.clone(), default.as_str().into());
            }
        }
        for (name, value) in pairs {
            found.insert(name.clone(), value.as_str().into());
        }
        found
    }
}

/// Cuts the `key=value` pairs off the end of a command. The text that they took is removed wherever it stands.
fn split_pairs(command: &str) -> (String, Vec<(String, String)>) {
    let Some(run) = PAIRS.find(command) else { return (command.to_owned(), Vec::new()) };
    let mut pairs = Vec::new();
    let mut rest = run.as_str();
    while let Some(found) = FIRST.captures(rest) {
        pairs.push((found["key"].to_owned(), unquoted(&found["value"]).to_owned()));
        rest = found.name("others").map_or("", |others| others.as_str());
    }
    (command.replace(run.as_str(), ""), pairs)
}

/// Without its quotes.
fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn extract(format: &str, command: &str) -> Result<Value, String> {
        let pattern = Pattern::new(format).map_err(|error| error.to_string())?;
        pattern.extract(command).map(Value::Object).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_give_parameters() {
        let run = "run {{cmd}} on {{hosts}}";
        let deploy = "deploy {{ app }} {{ver=1.0}}";
        let greet = "greet {{name=World}}";
        let show = r"(show|list) {{ what }}( in {{ where }})?";
        for (format, command, wanted) in [
            (run, "run date on localhost", json!({"cmd": "date", "hosts": "localhost"})),
            (run, "run 'date -u' on a,b", json!({"cmd": "date -u", "hosts": "a,b"})),
            (run, "run \"ls -l\" on h key=\"va lue\"", json!({"cmd": "ls -l", "hosts": "h", "key": "va lue"})),
            (
                run,
                "run date on localhost env={\"a\": \"b\"}",
                json!({"cmd": "date", "hosts": "localhost", "env": "{\"a\": \"b\"}"}),
            ),
            (deploy, "deploy web", json!({"app": "web", "ver": "1.0"})),
            (deploy, "deploy web 2.0", json!({"app": "web", "ver": "2.0"})),
            (deploy, "deploy web ver=3", json!({"app": "web", "ver": "3"})),
            (greet, "greet", json!({"name": "World"})),
            (greet, "greet Bob", json!({"name": "Bob"})),
            (show, "show x", json!({"what": "x", "where": null})),
            (show, "show x in 'a b'", json!({"what": "x", "where": "a b"})),
            ("hello", "hello x=1", json!({"x": "1"})),
            ("say {{ msg=\"hi there\" }}", "say", json!({"msg": "hi there"})),
            ("say {{ msg='' }}", "say", json!({"msg": ""})),
            (
                "hello",
                "hello a={1} b='' c={\"d\": {\"e\": \"f=g h=i\"}}",
                json!({"a": "{1}", "b": "", "c": "{\"d\": {\"e\": \"f=g h=i\"}}"}),
            ),
            ("x {{p}}", "x {\"a\":1}", json!({"p": "{\"a\":1}"})),
            ("multi (JIRA-[0-9]+)|{{t}}", "multi JIRA-1", json!({"t": null})),
            (r"^\s*exact {{x}}$", "exact 5", json!({"x": "5 "})),
        ] {
            assert_eq!(extract(format, command), Ok(wanted), "{format} / {command}");
        }
        for (format, command) in [
            (run, "RUN date on x"),
            (greet, "hi"),
            ("hello", "hello there"),
            ("x {{p}}", "x a=b"),
            (r"{{ key }}=(?P<v>\d+)", "foo=12"),
        ] {
            let refused = extract(format, command).unwrap_err();
            assert_eq!(refused, format!("Command \"{command}\" doesn't match format string \"{format}\""));
        }
        assert_eq!(extract("make {{thing}}", "").unwrap_err(), "No value supplied and no default value found.");
        assert!(extract("a (b", "x").unwrap_err().starts_with("Format string \"a (b\" can't be used"));
    }

    #[test]
    fn all_places_are_found() {
        let issues = |format: &str| {
            let all = Pattern::new(format).unwrap().extract_all("see AB-1, and CD-2").unwrap();
            all.iter().map(|found| found["issue"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(issues(r"(?:\b|^)(?P<issue>[A-Z]+-\d+)(?:\b|$)"), ["AB-1", "CD-2"]);
        assert_eq!(issues(r"(\W|^)(?P<issue>[A-Z]+-\d+)(?=\W|$)"), ["CD-2"]);
    }
}
