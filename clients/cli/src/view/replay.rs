//! The view of a replayed audit log.

use serde::Serialize;

use crate::output::View;

#[derive(Debug, Default, Serialize)]
pub(crate) struct ReplayView {
    file: String,
    dry_run: bool,
    /// Ids, by their state after the replay.
    pub(crate) revoked: Vec<String>,
    pub(crate) suspended: Vec<String>,
    pub(crate) resumed: Vec<String>,
    pub(crate) deleted: Vec<String>,
    pub(crate) updated: Vec<String>,
    /// Ids that the database does not contain.
    pub(crate) absent: Vec<String>,
    /// Changes that a log cannot restore.
    pub(crate) lost: Vec<LostRow>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LostRow {
    pub(crate) action: String,
    pub(crate) target: String,
    pub(crate) tenant_id: Option<String>,
}

impl ReplayView {
    pub(crate) fn new(file: String, dry_run: bool) -> Self {
        Self { file, dry_run, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let done = [&self.revoked, &self.suspended, &self.resumed, &self.updated, &self.deleted];
        done.into_iter().all(|ids| ids.is_empty())
    }
}

impl View for ReplayView {
    fn text(&self) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let mut text = format!(
            "{would}revoked: {}, suspended: {}, resumed: {}, updated: {}, deleted: {}",
            self.revoked.len(),
            self.suspended.len(),
            self.resumed.len(),
            self.updated.len(),
            self.deleted.len()
        );
        for id in &self.absent {
            text += &format!("\n{id}: not in this database: nothing to revoke");
        }
        for LostRow { action, target, .. } in &self.lost {
            let remedy = match action.starts_with("limit.") {
                true => "it is not made again; see `tenantctl limit list`, and the detail of the entry",
                false => "a log cannot restore it; check whether it exists, and create it again if not",
            };
            text += &format!("\n{target}: {action}: {remedy}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unrecoverable_changes_are_listed() {
        let mut view = ReplayView::new("audit.jsonl".to_owned(), false);
        assert!(view.is_empty());
        view.revoked.push("key_1".to_owned());
        view.resumed.push("acme".to_owned());
        view.absent.push("key_2".to_owned());
        view.lost.push(LostRow {
            action: "key.issue".to_owned(),
            target: "key_3".to_owned(),
            tenant_id: None,
        });
        view.lost.push(LostRow {
            action: "limit.set".to_owned(),
            target: "plan:pro".to_owned(),
            tenant_id: None,
        });
        assert_eq!(
            view.text(),
            "revoked: 1, suspended: 0, resumed: 1, updated: 0, deleted: 0\nkey_2: not in this database: nothing to revoke\n\
             key_3: key.issue: a log cannot restore it; check whether it exists, and create it again if not\n\
             plan:pro: limit.set: it is not made again; see `tenantctl limit list`, and the detail of the entry"
        );
    }
}
