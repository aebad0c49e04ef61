//! Values as text: Python's `str()` and `repr()`.

use chrono::{DateTime, FixedOffset, Timelike};
use model::python;

use super::value::{Kind, V};

/// `str()`; lists inside an expression are tuples.
pub(super) fn text(value: &V) -> String {
    render(value, true, true)
}

/// `str()` of what leaves the expression, where tuples have become lists.
pub(super) fn outside(value: &V) -> String {
    render(value, false, true)
}

fn render(value: &V, tuples: bool, top: bool) -> String {
    match value {
        V::Null => "None".to_owned(),
        V::Bool(true) => "True".to_owned(),
        V::Bool(false) => "False".to_owned(),
        V::Int(number) => number.to_string(),
        V::Float(number) => python::float_repr(*number),
        V::Text(text) if top => text.to_string(),
        V::Text(text) => {
            let mut out = String::new();
            python::write_str_repr(&mut out, text);
            out
        }
        V::Seq(seq) => {
            let items: Vec<String> = seq.items.iter().map(|item| render(item, tuples, false)).collect();
            let joined = items.join(", ");
            match seq.kind {
                Kind::Set if items.is_empty() => "set()".to_owned(),
                Kind::Set => format!("{{{joined}}}"),
                Kind::View if tuples => format!("ValuesView([{joined}])"),
                Kind::List if tuples && items.len() == 1 => format!("({joined},)"),
                Kind::List if tuples => format!("({joined})"),
                _ => format!("[{joined}]"),
            }
        }
        V::Dict(dict) => {
            let pair =
                |(key, value): &(V, V)| format!("{}: {}", render(key, tuples, false), render(value, tuples, false));
            let pairs: Vec<String> = dict.entries.iter().map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        V::Date(date) => iso(date).replacen('T', " ", 1),
        V::Span(span) => span_text(*span),
        V::Regex(pattern) => format!("re.compile('{}')", pattern.source),
    }
}

/// `datetime.isoformat()`.
pub(super) fn iso(date: &DateTime<FixedOffset>) -> String {
    let fraction = if date.nanosecond() >= 1000 { "%.6f" } else { "" };
    date.format(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z")).to_string()
}

/// `str(timedelta)`.
pub(super) fn span_text(span: i64) -> String {
    let days = span.div_euclid(86_400_000_000);
    let rest = span.rem_euclid(86_400_000_000);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let mut out = String::new();
    if days != 0 {
        out = format!("{days} day{}, ", if days.abs() == 1 { "" } else { "s" });
    }
    out += &format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros != 0 {
        out += &format!(".{micros:06}");
    }
    out
}
