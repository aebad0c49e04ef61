//! The group's status for people.

use serde_json::Value;

/// A few lines and tables; `status` is what `GET /v1/cluster/status` answers.
pub fn status(status: &Value) -> String {
    let mut out = format!(
        "Cluster {}: leader {}, term {}, applied {}, state {}\n",
        cell(&status["cluster"]),
        status["leader"].as_str().unwrap_or("none"),
        cell(&status["term"]),
        cell(&status["applied"]),
        cell(&status["state_hash"]),
    );
    if let Some(trouble) = status["trouble"].as_str() {
        out.push_str(&format!("Trouble: {trouble}\n"));
    }
    out.push('\n');
    let columns = |names: &[&'static str]| names.to_vec();
    for (key, title, names) in [
        ("members", "Members", columns(&["name", "voter", "address", "lag", "id"])),
        ("sessions", "Sessions", columns(&["node", "epoch", "roles", "suspended", "draining"])),
        ("duties", "Duties", columns(&["duty", "holder", "epoch", "handing_to"])),
        ("partitions", "Sensors", columns(&["sensor", "node", "epoch", "moves"])),
    ] {
        let rows: Vec<Vec<String>> = status[key]
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| names.iter().map(|name| cell(&row[*name])).collect())
            .collect();
        if !rows.is_empty() {
            out.push_str(&table(title, &names, &rows));
            out.push('\n');
        }
    }
    out.trim_end().to_owned()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn table(title: &str, names: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let longest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(names.get(column).map_or(0, |name| name.len()))
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |cells: Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
        format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head = line(names.iter().map(|name| name.to_uppercase()).collect());
    let body: String = rows.iter().map(|row| line(row.clone())).collect();
    format!("{title}\n{head}{body}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_are_aligned_and_gaps_are_shown() {
        let text = status(&json!({
            "cluster": "c", "leader": "n2", "term": 3, "applied": 9, "state_hash": "ab", "trouble": null,
            "members": [{"name": "n1", "voter": true, "address": "h:1", "lag": 0, "id": "01"},
                        {"name": "node2", "voter": false, "address": "h:2", "lag": null, "id": "02"}],
            "duties": [{"duty": "timers", "holder": null, "epoch": 4, "handing_to": null}],
        }));
        assert!(text.starts_with("Cluster c: leader n2, term 3, applied 9, state ab\n"), "{text}");
        assert!(text.contains("  n1     yes    h:1      0    01\n  node2  no     h:2      -    02\n"), "{text}");
        assert!(text.contains("  timers  -       4      -"), "{text}");
    }
}
