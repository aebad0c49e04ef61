//! What the command line prints: tables, JSON, YAML and executions, byte for byte as `st2` does (`spec/cli.md` §4, §9).

pub mod execution;
pub mod help;
pub mod literal;
pub mod python;
#[cfg(test)]
mod recorded;
pub mod schema;
pub mod table;
pub mod time;
pub mod value;
pub mod wrap;
pub mod yaml;

pub use time::Zone;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The grid, or an execution's listing.
    Human,
    Json,
    Yaml,
}

/// What printing depends on besides the values.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub format: Format,
    /// Statuses are coloured.
    pub colour: bool,
    pub zone: Zone,
    /// The terminal's width in columns.
    pub columns: usize,
}

impl Style {
    /// The colour and size settings of the environment.
    pub fn from_environment(format: Format, zone: Zone) -> Style {
        let terminals = ["xterm", "xterm-color", "xterm-256color", "screen", "vt100", "vt100-color"];
        let var = |name: &str| std::env::var(name).unwrap_or_default();
        let colour = terminals.contains(&var("TERM").as_str()) && var("ST2_COLORIZE").is_empty();
        let columns = var("COLUMNS").parse().ok().filter(|columns| *columns > 0);
        Style { format, colour, zone, columns: columns.or_else(terminal_columns).unwrap_or(150) }
    }

    /// A status in its colour.
    pub fn status(&self, status: &str) -> String {
        if !self.colour {
            return status.to_owned();
        }
        let code = match status {
            "succeeded" => 92,
            "failed" => 91,
            "timeout" => 33,
            "delayed" => 94,
            _ => 93,
        };
        format!("\u{1b}[{code}m{status}\u{1b}[0m")
    }

    fn paint(&self, code: u8, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// The width of the terminal that is our output, if it is one.
#[allow(unsafe_code)]
fn terminal_columns() -> Option<usize> {
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // the call only fills the struct it is given
    unsafe { window_size(1, &raw mut size) }.ok()?;
    (size.ws_col > 0).then_some(size.ws_col as usize)
}
