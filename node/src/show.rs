//! How commands print what a node answered.

use std::io::{self, Write};

use serde_json::Value;

/// A column: its title, and where a row holds its value (a JSON pointer).
pub type Column = (&'static str, &'static str);

/// Prints rows in columns, each as wide as its longest value; or as JSON.
///
/// # Errors
/// Standard output is closed.
pub fn table(rows: &Value, columns: &[Column], json: bool) -> io::Result<()> {
    let lines = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    print(&if json {
        format!("{rows:#}\n")
    } else {
        aligned(lines, columns)
    })
}

/// Prints one thing, a member a line; or as JSON.
///
/// # Errors
/// Standard output is closed.
pub fn record(thing: &Value, columns: &[Column], json: bool) -> io::Result<()> {
    if json {
        return print(&format!("{thing:#}\n"));
    }
    let width = columns
        .iter()
        .map(|(title, _)| title.len())
        .max()
        .unwrap_or(0);
    let line = |(title, at): &Column| {
        let value = word(thing, at);
        if value.is_empty() {
            value
        } else {
            format!("{title:<width$}  {value}\n")
        }
    };
    print(&columns.iter().map(line).collect::<String>())
}

/// Prints a text. What `print!` does, but a reader who has seen enough is no panic.
///
/// # Errors
/// Standard output is closed.
pub fn print(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// Prints a line for whoever may be watching; a node goes on when nobody does.
pub fn say(line: &str) {
    if let Err(error) = print(&format!("{line}\n")) {
        tracing::debug!(%error, "nobody reads standard output");
    }
}

/// A value as people read it: texts without quotes, members and lists with commas, of counts those
/// that are not zero, nothing for `null`.
pub fn word(thing: &Value, at: &str) -> String {
    match thing.pointer(at) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| word(item, ""))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(members)) if members.contains_key("per") => {
            // A rate: its count may be written as 12.0.
            let count = thing
                .pointer(&format!("{at}/count"))
                .and_then(Value::as_f64);
            format!(
                "{}/{}",
                count.unwrap_or_default(),
                word(thing, &format!("{at}/per"))
            )
        }
        Some(Value::Object(members)) if members.values().all(Value::is_u64) => {
            let some = members.iter().filter(|(_, count)| **count != 0);
            let shown: Vec<_> = some
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            if shown.is_empty() {
                "none".to_owned()
            } else {
                shown.join(", ")
            }
        }
        Some(Value::Object(members)) => {
            let known = members.iter().filter(|(_, value)| !value.is_null());
            let shown = known.map(|(name, value)| format!("{name} {}", word(value, "")));
            shown.collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

fn aligned(rows: &[Value], columns: &[Column]) -> String {
    let titles = columns
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    let cells = rows
        .iter()
        .map(|row| columns.iter().map(|(_, at)| word(row, at)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
    let width = |i: usize| {
        lines
            .iter()
            .map(|it| it[i].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rates_and_counts_are_shown_as_people_say_them() {
        let thing = json!({
            "pacing": {"rate": {"count": 12.0, "per": "minute"}, "burst": 1, "daily_cap": null},
            "by_status": {"read": 3, "failed": 0, "sent": 1},
            "depth": {"high": 0, "normal": 0},
        });

        assert_eq!(word(&thing, "/pacing"), "burst 1, rate 12/minute");
        assert_eq!(word(&thing, "/by_status"), "read 3, sent 1");
        assert_eq!(word(&thing, "/depth"), "none");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_value() {
        let rows = json!([{"id": 1, "name": "a long name"}, {"id": 12345, "name": null}]);

        let text = aligned(
            rows.as_array().unwrap(),
            &[("id", "/id"), ("name", "/name")],
        );

        assert_eq!(text, "id     name\n1      a long name\n12345\n");
    }
}
