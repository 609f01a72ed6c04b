//! Plain columns: no boxes, so that text can be cut, sorted and pasted.

use comfy_table::{Table, presets};

use super::printable;

/// One thing: a label and a value per line. Empty values are left out.
pub(crate) fn details(rows: &[(&str, String)]) -> String {
    let filled = rows.iter().filter(|(_, value)| !value.is_empty());
    render(Table::new(), filled.map(|(label, value)| vec![(*label).to_owned(), value.clone()]))
}

/// Many things: a header and a line for each. An empty value is a dash.
pub(crate) fn list(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().copied());
    let dashed = |value: String| if value.is_empty() { "-".to_owned() } else { value };
    render(table, rows.into_iter().map(|row| row.into_iter().map(dashed).collect()))
}

fn render(mut table: Table, rows: impl Iterator<Item = Vec<String>>) -> String {
    table.load_style(presets::NOTHING);
    for row in rows {
        table.add_row(row.iter().map(|value| printable(value)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_aligned_and_say_nothing_about_nothing() {
        let rows = [("tenant", "acme".to_owned()), ("plan", String::new()), ("x", "two\nlines".to_owned())];
        assert_eq!(details(&rows), "tenant  acme\nx       two\u{fffd}lines");
    }

    #[test]
    fn lists_have_a_header_even_when_empty() {
        assert_eq!(list(&["ID", "NAME"], []), "ID  NAME");
        let rows = [vec!["acme".to_owned(), String::new()]];
        assert_eq!(list(&["ID", "NAME"], rows), "ID    NAME\nacme  -");
    }
}
