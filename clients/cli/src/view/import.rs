//! The view of an import.

use serde::Serialize;

use crate::output::View;

#[derive(Debug, Default, Serialize)]
pub(crate) struct ImportView {
    pub(crate) file: String,
    pub(crate) dry_run: bool,
    /// The keys of the file.
    pub(crate) rows: usize,
    /// Rows that repeat another row of the file.
    pub(crate) repeated: usize,
    /// Rows with an outcome: all, unless the import ended early.
    pub(crate) done: usize,
    pub(crate) imported: usize,
    pub(crate) existing: usize,
    pub(crate) different: Vec<DifferentRow>,
    pub(crate) refused: Vec<RefusedRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct DifferentRow {
    pub(crate) line: u64,
    pub(crate) tenant_id: String,
    pub(crate) key_id: String,
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RefusedRow {
    pub(crate) line: u64,
    pub(crate) tenant_id: String,
    pub(crate) problem: String,
}

impl View for ImportView {
    fn text(&self) -> String {
        let repeated = match self.repeated {
            0 => String::new(),
            1 => "; 1 row repeats another".to_owned(),
            count => format!("; {count} rows repeat others"),
        };
        if self.dry_run {
            let rows = if self.rows == 1 { "row is" } else { "rows are" };
            return format!("{}: {} {rows} valid; nothing was sent{repeated}", self.file, self.rows);
        }
        let (different, refused) = (self.different.len(), self.refused.len());
        let mut text = format!(
            "{} imported, {} already present, {different} different, {refused} rejected{repeated}",
            self.imported, self.existing,
        );
        for row in &self.different {
            let fields = row.fields.join(", ");
            text += &format!("\n{}:{}: different: {fields} ({})", self.file, row.line, row.key_id);
        }
        for row in &self.refused {
            text += &format!("\n{}:{}: {}", self.file, row.line, row.problem);
        }
        text
    }

    fn note(&self) -> Option<&'static str> {
        const DIFFERENT: &str = "different keys were not changed: correct the file, or use `tenantctl key update`; \
                                 a revoked key stays revoked";
        (!self.different.is_empty()).then_some(DIFFERENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_and_rejected_rows_are_listed() {
        let different = DifferentRow {
            line: 3,
            tenant_id: "acme".to_owned(),
            key_id: "key_1".to_owned(),
            fields: vec!["scopes".to_owned(), "expires_at".to_owned()],
        };
        let rejected = RefusedRow {
            line: 7,
            tenant_id: "acme".to_owned(),
            problem: "there is no tenant acme".to_owned(),
        };
        let view = ImportView {
            file: "keys.csv".to_owned(),
            rows: 4,
            repeated: 2,
            done: 4,
            imported: 1,
            existing: 1,
            different: vec![different],
            refused: vec![rejected],
            ..ImportView::default()
        };
        let expected = "1 imported, 1 already present, 1 different, 1 rejected; 2 rows repeat others\n\
                        keys.csv:3: different: scopes, expires_at (key_1)\n\
                        keys.csv:7: there is no tenant acme";
        assert_eq!(view.text(), expected);
        assert!(view.note().unwrap().contains("were not changed"));
    }

    #[test]
    fn dry_run_counts_keys_and_repetitions() {
        let view =
            ImportView { file: "f".to_owned(), dry_run: true, rows: 1, repeated: 1, ..Default::default() };
        assert_eq!(view.text(), "f: 1 row is valid; nothing was sent; 1 row repeats another");
    }
}
