//! What every command works with: the client, the words given and the way to print.

use std::io::Write as _;

use serde_json::Value;

use crate::args::Matches;
use crate::error::{Error, Result};
use crate::http::Client;
use crate::output::{Format, Style, python, table, value, yaml};

/// A command under way.
pub struct Context {
    pub client: Client,
    pub matches: Matches,
    pub style: Style,
}

/// Prints a line. A reader that has gone away ends us quietly.
pub fn say(text: &str) {
    put(&format!("{text}\n"));
}

/// Prints without a line feed, at once.
pub fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

impl Context {
    /// The attributes asked for; `None` means all.
    pub fn attributes(&self) -> Option<Vec<String>> {
        let asked = self.matches.all("attr");
        let names: Vec<String> = asked.iter().flat_map(|name| name.split(',')).map(str::to_owned).collect();
        (!names.is_empty() && names != ["all"]).then_some(names)
    }

    /// The widths of `-w`.
    pub fn widths(&self) -> Result<Vec<usize>> {
        let widths = self.matches.all("width").iter();
        let numbers = widths.map(|text| {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| Error::failed(format!("argument -w/--width: invalid int value: '{text}'")))
        });
        numbers.collect()
    }

    /// An option that is a number.
    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        let Some(text) = self.matches.one(key) else { return Ok(None) };
        let number = text.parse().map_err(|_| Error::failed(format!("argument --{key}: invalid int value: '{text}'")));
        number.map(Some)
    }

    /// A required argument.
    pub fn argument(&self, key: &str) -> Result<&str> {
        self.matches.one(key).ok_or_else(|| Error::failed(format!("argument {key} is missing")))
    }

    /// Prints one object: its named attributes, or first those of `order` and then the others.
    pub fn show(&self, document: &Value, order: &[&str], exact: bool) {
        let names = match self.attributes() {
            Some(names) => names,
            None if exact => order.iter().map(|name| (*name).to_owned()).collect(),
            None => value::ordered(document, order),
        };
        match self.style.format {
            Format::Json => say(&python::json(&value::pick(document, &names), true)),
            Format::Yaml => say(&yaml::dump(&value::pick(document, &names), yaml::DOCUMENT)),
            Format::Human => {
                let rows: Vec<_> =
                    names.iter().map(|name| (name.clone(), value::object_cell(document, name))).collect();
                say(&table::properties(&rows));
            }
        }
    }

    /// Prints a list; returns the table, if it was one.
    pub fn show_list(&self, documents: &[Value], columns: &[String]) -> Result<Option<String>> {
        self.print_list(documents, columns, false, true)
    }

    /// As [`Context::show_list`], but an empty list is an empty table.
    pub fn show_grid(&self, documents: &[Value], columns: &[String]) -> Result<Option<String>> {
        self.print_list(documents, columns, false, false)
    }

    /// Prints a list whose columns nobody chose: each may be as wide as the next.
    pub fn show_unnamed_list(&self, documents: &[Value], columns: &[String]) -> Result<Option<String>> {
        self.print_list(documents, columns, true, true)
    }

    fn print_list(
        &self,
        documents: &[Value],
        columns: &[String],
        unnamed: bool,
        says_nothing: bool,
    ) -> Result<Option<String>> {
        let picked = || Value::Array(documents.iter().map(|document| value::pick(document, columns)).collect());
        match self.style.format {
            Format::Json => say(&python::json(&picked(), true)),
            Format::Yaml => say(&yaml::dump(&picked(), yaml::DOCUMENT)),
            Format::Human if documents.is_empty() && says_nothing => say("No matching items found"),
            Format::Human => {
                let cells =
                    |document| columns.iter().map(|name| value::list_cell(document, name, self.style.zone)).collect();
                let rows: Vec<Vec<String>> = documents.iter().map(cells).collect();
                let everything = self.matches.all("attr") == ["all"] || self.matches.has("detail");
                let limits = match everything && !self.matches.has("width") {
                    true => Vec::new(),
                    _ if unnamed => vec![Some(table::UNNAMED_WIDTH); columns.len()],
                    _ => table::limits(columns, &rows, &self.widths()?, self.style.columns),
                };
                let grid = table::grid(columns, &rows, &limits);
                say(&grid);
                return Ok(Some(grid));
            }
        }
        Ok(None)
    }
}

/// Reads a JSON or YAML file that describes something.
pub fn load_file(path: &str) -> Result<Value> {
    let file = std::path::Path::new(path);
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let Ok(text) = std::fs::read_to_string(file) else {
        return Err(Error::failed(format!("File \"{}\" does not exist.", absolute.display())));
    };
    let extension = file.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
    match extension.as_str() {
        "json" => serde_json::from_str(&text).map_err(|error| Error::failed(format!("{path}: {error}"))),
        "yaml" | "yml" => model::yaml::load(&text).map_err(|error| Error::failed(format!("{path}: {error}"))),
        other => Err(Error::failed(format!(
            "Unsupported meta type .{other}, file {path}. Allowed: ['.json', '.yaml', '.yml']"
        ))),
    }
}
