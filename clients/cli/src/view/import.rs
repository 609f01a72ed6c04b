//! The view of an import.

use serde::Serialize;

use crate::output::View;

#[derive(Debug, Serialize)]
pub(crate) struct ImportView {
    pub(crate) file: String,
    pub(crate) dry_run: bool,
    pub(crate) rows: usize,
    pub(crate) imported: usize,
    pub(crate) existing: usize,
    pub(crate) refused: Vec<RefusedRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RefusedRow {
    pub(crate) line: u64,
    pub(crate) tenant_id: String,
    pub(crate) problem: String,
}

impl View for ImportView {
    fn text(&self) -> String {
        if self.dry_run {
            let rows = if self.rows == 1 { "row is" } else { "rows are" };
            return format!("{}: {} {rows} valid; nothing was sent", self.file, self.rows);
        }
        let mut text = format!(
            "{} imported, {} already present, {} rejected",
            self.imported,
            self.existing,
            self.refused.len()
        );
        for row in &self.refused {
            text += &format!("\n{}:{}: {}", self.file, row.line, row.problem);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_are_listed() {
        let rejected = RefusedRow {
            line: 7,
            tenant_id: "acme".to_owned(),
            problem: "there is no tenant acme".to_owned(),
        };
        let view = ImportView {
            file: "keys.csv".to_owned(),
            dry_run: false,
            rows: 3,
            imported: 1,
            existing: 1,
            refused: vec![rejected],
        };
        let expected = "1 imported, 1 already present, 1 rejected\nkeys.csv:7: there is no tenant acme";
        assert_eq!(view.text(), expected);
    }
}
