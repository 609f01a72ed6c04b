//! Keys that a file lists more than once.

use std::collections::{HashMap, hash_map::Entry};

use super::row::{Problem, Row};

/// Removes rows that repeat another row. Returns their number, or a problem for each row that contradicts
/// another: which of the two is meant cannot be known.
pub(super) fn remove(rows: &mut Vec<Row>) -> Result<usize, Vec<Problem>> {
    let mut first_rows: HashMap<&[u8], &Row> = HashMap::with_capacity(rows.len());
    let mut problems = Vec::new();
    let mut repeated = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match first_rows.entry(&row.key.sha256) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(first) => {
                repeated.push(index);
                problems.extend(contradiction(first.get(), row));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let count = repeated.len();
    let mut repeated = repeated.into_iter().peekable();
    let mut index = 0;
    rows.retain(|_| {
        let is_repeated = repeated.next_if_eq(&index).is_some();
        index += 1;
        !is_repeated
    });
    Ok(count)
}

fn contradiction(first: &Row, row: &Row) -> Option<Problem> {
    let (line, key, other) = (first.line, &first.key, &row.key);
    if key.tenant_id != other.tenant_id {
        // The service would reject one of them.
        let text = format!("duplicate key: line {line} has it for another tenant");
        return Some(Problem::new(row.line, "sha256", text));
    }
    let sorted = |items: &[String]| {
        let mut items = items.to_vec();
        items.sort_unstable();
        items.dedup();
        items
    };
    let fields = [
        ("name", key.name != other.name),
        ("prefix_hint", key.prefix_hint != other.prefix_hint),
        ("scopes", sorted(&key.scopes) != sorted(&other.scopes)),
        ("created_at", key.created_at != other.created_at),
        ("expires_at", key.expires_at != other.expires_at),
        ("allowed_networks", sorted(&key.allowed_networks) != sorted(&other.allowed_networks)),
    ];
    let differing: Vec<_> =
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    let text = format!("duplicate key: line {line} has it with another {}", differing.join(", "));
    (!differing.is_empty()).then(|| Problem::new(row.line, "sha256", text))
}
