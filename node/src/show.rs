//! How commands print what a node answered.

use serde_json::Value;

/// A column: its title, and where a row holds its value (a JSON pointer).
pub type Column = (&'static str, &'static str);

/// Prints rows in columns, each as wide as its longest value; or as JSON.
pub fn table(rows: &Value, columns: &[Column], json: bool) {
    if json {
        return println!("{rows:#}");
    }
    print!(
        "{}",
        aligned(
            rows.as_array().map(Vec::as_slice).unwrap_or_default(),
            columns
        )
    );
}

/// Prints one thing, a member a line; or as JSON.
pub fn record(thing: &Value, columns: &[Column], json: bool) {
    if json {
        return println!("{thing:#}");
    }
    let width = columns
        .iter()
        .map(|(title, _)| title.len())
        .max()
        .unwrap_or(0);
    for (title, at) in columns {
        let value = word(thing, at);
        if !value.is_empty() {
            println!("{title:<width$}  {value}");
        }
    }
}

/// A value as people read it: texts without quotes, lists with commas, nothing for `null`.
pub fn word(thing: &Value, at: &str) -> String {
    match thing.pointer(at) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| word(item, ""))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(members)) => members
            .iter()
            .map(|(name, value)| format!("{name} {}", word(value, "")))
            .collect::<Vec<_>>()
            .join(", "),
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
    fn columns_are_as_wide_as_their_longest_value() {
        let rows = json!([{"id": 1, "name": "a long name"}, {"id": 12345, "name": null}]);

        let text = aligned(
            rows.as_array().unwrap(),
            &[("id", "/id"), ("name", "/name")],
        );

        assert_eq!(text, "id     name\n1      a long name\n12345\n");
    }
}
