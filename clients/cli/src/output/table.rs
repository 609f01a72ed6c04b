//! Plain columns without boxes, so that text can be cut, sorted and pasted.

use comfy_table::{ColumnConstraint, Table, Width, presets};

use super::printable;

/// Renders one object: a label and a value per line. Empty values are omitted.
pub(crate) fn details(rows: &[(&str, String)]) -> String {
    let filled = rows.iter().filter(|(_, value)| !value.is_empty());
    render(Table::new(), filled.map(|(label, value)| vec![(*label).to_owned(), value.clone()]))
}

/// Columns that continue from page to page: each page is at least as wide as the pages before it.
#[derive(Debug)]
pub(super) struct Columns {
    /// `None` once it was written.
    header: Option<&'static [&'static str]>,
    widths: Vec<u16>,
}

impl Columns {
    pub(super) fn new(header: &'static [&'static str]) -> Self {
        Self { header: Some(header), widths: vec![0; header.len()] }
    }

    /// Renders the lines of a page without a final line end; the first page has a header. An empty value is a
    /// dash.
    pub(super) fn lines(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        if let Some(header) = self.header.take() {
            table.set_header(header.iter().copied());
        }
        fill(&mut table, rows.into_iter().map(dash_if_empty));
        let widest = table.column_max_content_widths();
        for (width, page_width) in self.widths.iter_mut().zip(widest) {
            *width = page_width.max(*width);
        }
        for (column, width) in table.column_iter_mut().zip(&self.widths) {
            // Includes the two blanks after the column.
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + 2)));
        }
        table.trim_fmt()
    }
}

/// Renders several objects: a header, and a line for each. An empty value is a dash.
pub(crate) fn render_table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().copied());
    render(table, rows.into_iter().map(dash_if_empty))
}

fn dash_if_empty(row: Vec<String>) -> Vec<String> {
    row.into_iter().map(|value| if value.is_empty() { "-".to_owned() } else { value }).collect()
}

fn render(mut table: Table, rows: impl Iterator<Item = Vec<String>>) -> String {
    fill(&mut table, rows);
    table.trim_fmt()
}

fn fill(table: &mut Table, rows: impl Iterator<Item = Vec<String>>) {
    table.load_style(presets::NOTHING);
    for row in rows {
        table.add_row(row.iter().map(|value| printable(value)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_aligned_and_skip_empty_values() {
        let rows = [("tenant", "acme".to_owned()), ("plan", String::new()), ("x", "two\nlines".to_owned())];
        assert_eq!(details(&rows), "tenant  acme\nx       two\u{fffd}lines");
    }

    #[test]
    fn empty_list_has_a_header() {
        assert_eq!(render_table(&["ID", "NAME"], []), "ID  NAME");
        let rows = [vec!["acme".to_owned(), String::new()]];
        assert_eq!(render_table(&["ID", "NAME"], rows), "ID    NAME\nacme  -");
    }
}
