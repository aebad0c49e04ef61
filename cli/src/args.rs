//! Command lines, read as `argparse` reads them: options anywhere, several values per option, abbreviated long options.
//!
//! A [`Command`] is data; parsing it gives [`Matches`], printing it gives the usage and the help.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::output::wrap;

/// How many values an option or argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// An option that is there or not.
    Flag,
    One,
    /// An argument that may be left out.
    Optional,
    /// One or more.
    Some,
    /// None or more.
    Any,
}

/// An option (its names begin with `-`) or an argument.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    pub names: &'static [&'static str],
    pub count: Count,
    pub help: &'static str,
}

impl Arg {
    pub const fn flag(names: &'static [&'static str], help: &'static str) -> Arg {
        Arg { names, count: Count::Flag, help }
    }

    pub const fn one(names: &'static [&'static str], help: &'static str) -> Arg {
        Arg { names, count: Count::One, help }
    }

    pub const fn some(names: &'static [&'static str], help: &'static str) -> Arg {
        Arg { names, count: Count::Some, help }
    }

    pub const fn any(names: &'static [&'static str], help: &'static str) -> Arg {
        Arg { names, count: Count::Any, help }
    }

    pub const fn optional(names: &'static [&'static str], help: &'static str) -> Arg {
        Arg { names, count: Count::Optional, help }
    }

    fn is_option(&self) -> bool {
        self.names[0].starts_with('-')
    }

    /// The name under which [`Matches`] has it: the first long one.
    pub fn key(&self) -> &'static str {
        let long = self.names.iter().find(|name| name.starts_with("--"));
        long.unwrap_or(&self.names[0]).trim_start_matches('-')
    }

    fn metavar(&self) -> String {
        if self.is_option() { self.key().replace('-', "_").to_uppercase() } else { self.names[0].to_owned() }
    }

    /// Whether the option needs a value.
    pub fn takes_value(&self) -> bool {
        self.count != Count::Flag
    }

    /// The values it takes, as the usage shows them.
    pub fn values(&self) -> String {
        let name = self.metavar();
        match self.count {
            Count::Flag => String::new(),
            Count::One => name,
            Count::Optional => format!("[{name}]"),
            Count::Some => format!("{name} [{name} ...]"),
            Count::Any => format!("[{name} ...]"),
        }
    }
}

/// What a command line of one command may hold.
#[derive(Debug, Clone)]
pub struct Command {
    /// `st2 action list`.
    pub path: String,
    pub about: String,
    pub args: Vec<Arg>,
    /// Options of which only one may be given.
    pub exclusive: &'static [&'static str],
}

/// The values given.
#[derive(Debug, Default, Clone)]
pub struct Matches {
    values: HashMap<&'static str, Vec<String>>,
}

impl Matches {
    /// Whether the option or argument was given.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Its (last) value.
    pub fn one(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(|values| values.last()).map(String::as_str)
    }

    /// Its values; none if it wasn't given.
    pub fn all(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }
}

/// Why a command line isn't carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// `-h`.
    Help,
    Wrong(String),
}

impl Command {
    /// Reads the words behind the command's name. With `help` false, `-h` is an ordinary flag.
    pub fn parse(&self, words: &[String]) -> Result<Matches, Stop> {
        let mut matches = Matches::default();
        let mut free: Vec<String> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let word = &words[at];
            at += 1;
            if word == "--" {
                free.extend_from_slice(&words[at..]);
                break;
            }
            if !is_option_like(word) {
                free.push(word.clone());
                continue;
            }
            let (arg, mut inline) = self.find(word)?;
            let mut values: Vec<String> = inline.take().into_iter().collect();
            let most = match arg.count {
                Count::Flag => 0,
                Count::One | Count::Optional => 1,
                Count::Some | Count::Any => usize::MAX,
            };
            if values.len() > most {
                return Err(Stop::Wrong(format!("argument {}: ignored explicit argument", arg.names.join("/"))));
            }
            let given_inline = !values.is_empty();
            while !given_inline && values.len() < most && at < words.len() && !is_option_like(&words[at]) {
                values.push(words[at].clone());
                at += 1;
            }
            let short = match arg.count {
                Count::One if values.is_empty() => Some("expected one argument"),
                Count::Some if values.is_empty() => Some("expected at least one argument"),
                _ => None,
            };
            if let Some(short) = short {
                return Err(Stop::Wrong(format!("argument {}: {short}", arg.names.join("/"))));
            }
            if arg.key() == "help" {
                return Err(Stop::Help);
            }
            self.check_exclusive(arg, &matches)?;
            matches.values.insert(arg.key(), values);
        }
        self.place(free, &mut matches)?;
        Ok(matches)
    }

    fn check_exclusive(&self, arg: &Arg, matches: &Matches) -> Result<(), Stop> {
        if !self.exclusive.contains(&arg.key()) {
            return Ok(());
        }
        let other = self.args.iter().find(|other| {
            other.key() != arg.key() && self.exclusive.contains(&other.key()) && matches.has(other.key())
        });
        match other {
            None => Ok(()),
            Some(other) => Err(Stop::Wrong(format!(
                "argument {}: not allowed with argument {}",
                arg.names.join("/"),
                other.names.join("/")
            ))),
        }
    }

    /// The option a word names, and the value that is part of the word.
    fn find(&self, word: &str) -> Result<(&Arg, Option<String>), Stop> {
        let options = || self.args.iter().filter(|arg| arg.is_option());
        let (name, value) = match word.split_once('=') {
            Some((name, value)) if word.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word, None),
        };
        if let Some(arg) = options().find(|arg| arg.names.contains(&name)) {
            return Ok((arg, value));
        }
        let unknown = || Stop::Wrong(format!("unrecognized arguments: {word}"));
        if name.starts_with("--") {
            let mut candidates = options().filter(|arg| arg.names.iter().any(|long| long.starts_with(name)));
            return match (candidates.next(), candidates.next()) {
                (Some(arg), None) => Ok((arg, value)),
                (Some(_), Some(_)) => Err(Stop::Wrong(format!("ambiguous option: {word}"))),
                _ => Err(unknown()),
            };
        }
        let attached = options().filter(|arg| arg.count != Count::Flag).find_map(|arg| {
            let rest = arg.names.iter().filter(|name| !name.starts_with("--")).find_map(|name| word.strip_prefix(name));
            rest.map(|rest| (arg, Some(rest.strip_prefix('=').unwrap_or(rest).to_owned())))
        });
        attached.ok_or_else(unknown)
    }

    /// Gives the free words to the arguments: each takes what it needs, the first greedy one the rest.
    fn place(&self, free: Vec<String>, matches: &mut Matches) -> Result<(), Stop> {
        let arguments: Vec<&Arg> = self.args.iter().filter(|arg| !arg.is_option()).collect();
        let least = |arg: &Arg| usize::from(matches!(arg.count, Count::One | Count::Some));
        let mut free = std::collections::VecDeque::from(free);
        for (index, arg) in arguments.iter().enumerate() {
            let later: usize = arguments[index + 1..].iter().map(|arg| least(arg)).sum();
            let most = match arg.count {
                Count::One | Count::Optional => 1,
                _ => usize::MAX,
            };
            let take = free.len().saturating_sub(later).min(most);
            if take < least(arg) {
                let missing: Vec<String> =
                    arguments[index..].iter().filter(|arg| least(arg) > 0).map(|arg| arg.metavar()).collect();
                let missing = missing.join(", ");
                return Err(Stop::Wrong(format!("the following arguments are required: {missing}")));
            }
            if take > 0 {
                matches.values.insert(arg.key(), free.drain(..take).collect());
            }
        }
        if free.is_empty() {
            return Ok(());
        }
        Err(Stop::Wrong(format!("unrecognized arguments: {}", Vec::from(free).join(" "))))
    }

    /// The `usage:` lines.
    pub fn usage(&self, columns: usize) -> String {
        let mut parts: Vec<String> = Vec::new();
        for arg in self.args.iter().filter(|arg| arg.is_option()) {
            let values = arg.values();
            let gap = if values.is_empty() { "" } else { " " };
            parts.push(format!("[{}{gap}{values}]", arg.names[0]));
        }
        parts.extend(self.args.iter().filter(|arg| !arg.is_option()).map(Arg::values));
        let lead = format!("usage: {} ", self.path);
        let mut lines = vec![lead.clone()];
        for part in parts {
            let current = lines.last_mut().map(|line| (line.chars().count(), line));
            let Some((length, line)) = current else { continue };
            if length + part.chars().count() > columns && length > lead.chars().count() {
                lines.push(format!("{}{part} ", " ".repeat(lead.chars().count())));
            } else {
                let _ = write!(line, "{part} ");
            }
        }
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    /// The text of `-h`.
    pub fn help(&self, columns: usize) -> String {
        let mut out = format!("{}\n\n{}\n", self.usage(columns), self.about);
        for (title, options) in [("positional arguments", false), ("options", true)] {
            let args: Vec<&Arg> = self.args.iter().filter(|arg| arg.is_option() == options).collect();
            if args.is_empty() {
                continue;
            }
            let _ = write!(out, "\n{title}:\n");
            for arg in args {
                let values = arg.values();
                let lead = match (options, values.is_empty()) {
                    (false, _) => arg.names[0].to_owned(),
                    (true, true) => arg.names.join(", "),
                    (true, false) => {
                        let names: Vec<_> = arg.names.iter().map(|name| format!("{name} {values}")).collect();
                        names.join(", ")
                    }
                };
                out.push_str(&entry(&lead, arg.help, columns));
            }
        }
        out
    }
}

/// One line of help: a name and what it is for, from column 24 on.
pub fn entry(lead: &str, help: &str, columns: usize) -> String {
    let lines = wrap::wrap(help, columns.saturating_sub(26).max(20));
    let mut out = format!("  {lead}");
    let fits = lead.chars().count() + 4 <= 24;
    for (index, line) in lines.iter().enumerate() {
        if index == 0 && fits {
            let gap = 22 - lead.chars().count();
            let _ = write!(out, "{}{line}", " ".repeat(gap));
        } else {
            let _ = write!(out, "\n{}{line}", " ".repeat(24));
        }
    }
    out.push('\n');
    out
}

/// `-x` is an option, `-` and `-5` are values.
fn is_option_like(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-') && word.parse::<f64>().is_err() && !word.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command {
            path: "st2 x list".to_owned(),
            about: "About.".to_owned(),
            args: vec![
                Arg::flag(&["-h", "--help"], "help"),
                Arg::flag(&["-j", "--json"], "json"),
                Arg::some(&["-a", "--attr"], "attributes"),
                Arg::one(&["-n", "--last"], "count"),
                Arg::one(&["-tg", "--timestamp-gt"], "since"),
                Arg::flag(&["--enabled"], ""),
                Arg::flag(&["--disabled"], ""),
                Arg::one(&["id"], "the id"),
                Arg::any(&["rest"], "the rest"),
            ],
            exclusive: &["enabled", "disabled"],
        }
    }

    fn parse(line: &str) -> Result<Matches, Stop> {
        command().parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_may_stand_anywhere() {
        let matches = parse("one -j two -n -1 three --att a b -tg=5").unwrap();
        assert_eq!(matches.one("id"), Some("one"));
        assert_eq!(matches.all("rest"), ["two", "three"]);
        assert_eq!(matches.one("last"), Some("-1"));
        assert_eq!(matches.all("attr"), ["a", "b"]);
        assert_eq!(matches.one("timestamp-gt"), Some("5"));
        assert!(matches.has("json") && !matches.has("help"));
        assert_eq!(parse("x -n5").unwrap().one("last"), Some("5"));
        assert_eq!(parse("-- -j").unwrap().one("id"), Some("-j"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |line: &str| match parse(line) {
            Err(Stop::Wrong(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(wrong(""), "the following arguments are required: id");
        assert_eq!(wrong("x --last"), "argument -n/--last: expected one argument");
        assert_eq!(wrong("x --wat"), "unrecognized arguments: --wat");
        assert_eq!(wrong("x --enabled --disabled"), "argument --disabled: not allowed with argument --enabled");
        assert_eq!(parse("-h").unwrap_err(), Stop::Help);
    }

    #[test]
    fn help_names_every_argument() {
        let help = command().help(80);
        assert!(help.starts_with("usage: st2 x list [-h] [-j] [-a ATTR [ATTR ...]] [-n LAST]"), "{help}");
        assert!(help.contains("\n  -n LAST, --last LAST  count\n"), "{help}");
    }
}
