//! ASCII grids: lists, and the `Property`/`Value` table of one object.

use super::wrap;

/// A property's name and its value.
const PROPERTY_WIDTHS: [Option<usize>; 2] = [Some(20), Some(60)];
/// The columns an execution's id takes, with its padding.
const ID_COLUMN: usize = 26;
/// Room for `succeeded (12s elapsed)`.
const STATUS_WIDTH: usize = 24;
/// A column of unknown meaning.
pub const UNNAMED_WIDTH: usize = 28;
const LEAST_WIDTH: usize = 5;

/// A grid of cells, left aligned. A cell is as wide as its longest line, but not wider than its column's limit or
/// heading; longer lines are wrapped.
pub fn grid(headings: &[String], rows: &[Vec<String>], limits: &[Option<usize>]) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(index, heading)| {
            let limit = limits.get(index).copied().flatten().unwrap_or(usize::MAX);
            let cells = rows.iter().filter_map(|row| row.get(index));
            let longest = cells.flat_map(|cell| cell.split('\n').map(wrap::width)).max().unwrap_or(0);
            wrap::width(heading).max(longest.min(limit))
        })
        .collect();
    let rule = format!("+{}+", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+"));
    let mut lines = vec![rule.clone()];
    push_row(&mut lines, headings, &widths);
    lines.push(rule.clone());
    for row in rows {
        push_row(&mut lines, row, &widths);
    }
    lines.push(rule);
    lines.join("\n")
}

fn push_row(lines: &mut Vec<String>, cells: &[String], widths: &[usize]) {
    let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| fit(cell, *width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    for at in 0..height {
        let mut line = String::from("|");
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.get(at).map_or("", String::as_str);
            let gap = width.saturating_sub(wrap::width(text));
            line.push(' ');
            line.push_str(text);
            line.push_str(&" ".repeat(gap + 1));
            line.push('|');
        }
        lines.push(line);
    }
}

fn fit(cell: &str, width: usize) -> Vec<String> {
    let mut out = Vec::new();
    for line in cell.split('\n') {
        if wrap::width(line) > width {
            out.extend(wrap::wrap(line, width));
        } else {
            out.push(line.to_owned());
        }
    }
    out
}

/// The table of one object.
pub fn properties(rows: &[(String, String)]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    grid(&["Property".to_owned(), "Value".to_owned()], &rows, &PROPERTY_WIDTHS)
}

/// The limits of a list's columns: what `-w` asks for, or the terminal's width shared out.
pub fn limits(columns: &[String], rows: &[Vec<String>], asked: &[usize], terminal: usize) -> Vec<Option<usize>> {
    match asked {
        [] => {}
        [all] => return vec![Some(*all); columns.len()],
        some if some.len() == columns.len() => return some.iter().copied().map(Some).collect(),
        // too few or too many: as if none could be told apart
        _ => return vec![Some(UNNAMED_WIDTH); columns.len()],
    }
    let ids = columns.first().is_some_and(|name| name == "id");
    let longest = rows.iter().filter_map(|row| row.first()).map(|id| wrap::width(id)).max().unwrap_or(0);
    let id_width = longest.max(ID_COLUMN);
    let left = terminal.saturating_sub(if ids { id_width } else { 0 });
    let share = (left / columns.len().max(1)).max(LEAST_WIDTH);
    let mut limits: Vec<usize> = vec![share; columns.len()];
    if ids {
        limits[0] = id_width;
    }
    if let Some(status) = columns.iter().position(|name| name == "status")
        && share < STATUS_WIDTH
    {
        limits[status] = STATUS_WIDTH;
        let last = columns.len() - 1;
        if last != status {
            limits[last] = share.saturating_sub(STATUS_WIDTH - share).max(1);
        }
    }
    limits.into_iter().map(Some).collect()
}

/// The framed remark under a list, as wide as the list.
pub fn note(text: &str, table: &str) -> String {
    let inner = table.lines().next().map_or(0, |rule| rule.len().saturating_sub(4)).max(wrap::width(text));
    let rule = format!("+{}+", "-".repeat(inner + 2));
    format!("{rule}\n| {text:<inner$} |\n{rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn widths_are_shared_out_as_in_the_recordings() {
        let columns = strings(&["id", "action.ref", "context.user", "status", "start_timestamp", "end_timestamp"]);
        let given: Vec<_> = limits(&columns, &[], &[], 150).into_iter().flatten().collect();
        assert_eq!(given, [26, 20, 20, 24, 20, 16]);
        assert_eq!(limits(&columns, &[], &[30, 10], 150).into_iter().flatten().collect::<Vec<_>>(), [28; 6]);
        assert_eq!(limits(&strings(&["ref", "pack", "description"]), &[], &[], 150), vec![Some(50); 3]);
    }

    #[test]
    fn grids_wrap_and_pad() {
        let table = properties(&[("name".to_owned(), "a\nb".to_owned()), ("x".to_owned(), String::new())]);
        let expected = "+----------+-------+\n| Property | Value |\n+----------+-------+\n| name     | a     |\n|          | b     |\n| x        |       |\n+----------+-------+";
        assert_eq!(table, expected);
        assert_eq!(note("Note", &table).lines().next().map(str::len), table.lines().next().map(str::len));
    }
}
