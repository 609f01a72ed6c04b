//! Sends the rows of an import, in requests that the service accepts.

use indicatif::{ProgressBar, ProgressStyle};
use prost::Message as _;
use tenant_auth_client::{AdminClient, Error, ImportedKey};

use crate::{
    import::Row,
    retry,
    view::{DifferentRow, ImportView, RefusedRow},
};

/// Maximum keys of one request that the service accepts.
const MAX_KEYS_PER_REQUEST: usize = 500;
/// Maximum size of the keys of one request, below the 1 MiB that the service accepts. Many long scopes exceed
/// it.
const MAX_REQUEST_BYTES: usize = 1_000_000;
/// Maximum size of a key's tag and length in a request.
const MAX_KEY_HEADER_BYTES: usize = 6;

/// Why sending ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Every row has an outcome.
    Complete,
    /// The user pressed Ctrl-C. The last request may have been committed.
    Interrupted,
    /// A request failed permanently, or after all retries. It may have been committed.
    Failed(Error),
}

/// Sends the rows in order, and counts their outcomes.
pub(super) async fn send(admin: &AdminClient, rows: &[Row], view: &mut ImportView) -> Ended {
    // Draws nothing if standard error is not a terminal.
    let bar = ProgressBar::new(rows.len() as u64).with_style(progress_style());
    let mut interrupt = std::pin::pin!(interrupted());
    for page in pages(rows) {
        let keys: Vec<_> = page.iter().map(|row| row.key.clone()).collect();
        let request = retry::with_retries(async || admin.import_keys(keys.clone()).await);
        let response = tokio::select! {
            biased;
            () = &mut interrupt => {
                bar.abandon();
                return Ended::Interrupted;
            }
            response = request => response,
        };
        let outcomes = match response {
            Ok(outcomes) => outcomes,
            Err(error) => {
                bar.abandon();
                return Ended::Failed(error);
            }
        };
        for (row, outcome) in page.iter().zip(outcomes) {
            count_outcome(row, outcome, view);
        }
        bar.inc(page.len() as u64);
    }
    bar.finish_and_clear();
    Ended::Complete
}

/// Resolves when the user presses Ctrl-C.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler, the signal ends the process.
        std::future::pending().await
    }
}

/// Splits rows into requests.
fn pages(mut rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    std::iter::from_fn(move || {
        let mut size = 0;
        let fits = |row: &&Row| {
            size += row.key.encoded_len() + MAX_KEY_HEADER_BYTES;
            size <= MAX_REQUEST_BYTES
        };
        let count = rows.iter().take(MAX_KEYS_PER_REQUEST).take_while(fits).count();
        // A single row is far smaller than a request.
        let (page, rest) = rows.split_at_checked(count.max(1))?;
        rows = rest;
        Some(page)
    })
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} rows, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn count_outcome(row: &Row, outcome: Result<ImportedKey, Error>, view: &mut ImportView) {
    view.done += 1;
    let (line, tenant_id) = (row.line, &row.key.tenant_id);
    match outcome {
        Ok(ImportedKey::New { .. }) => view.imported += 1,
        Ok(ImportedKey::Existing { .. }) => view.existing += 1,
        Ok(ImportedKey::Different { key_id, fields }) => {
            view.different.push(DifferentRow { line, tenant_id: tenant_id.clone(), key_id, fields });
        }
        Err(error) => {
            view.refused.push(RefusedRow { line, tenant_id: tenant_id.clone(), problem: problem_text(error) })
        }
    }
}

fn problem_text(error: Error) -> String {
    match error {
        Error::NotFound { message, .. }
        | Error::AlreadyExists { message, .. }
        | Error::Invalid { message, .. } => message,
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tenant_auth_client::{Violation, proto};

    use super::*;

    fn rows(count: usize, scopes: usize) -> Vec<Row> {
        let key = proto::ImportKey {
            sha256: vec![7; 32],
            scopes: vec!["s".repeat(64); scopes],
            ..Default::default()
        };
        (1..).take(count).map(|line| Row { line, key: key.clone() }).collect()
    }

    #[test]
    fn rejected_row_shows_the_problem() {
        let violation = |field: &str| Violation { field: field.to_owned(), description: "is bad".to_owned() };
        let violations = vec![violation("name"), violation("scopes[1]")];
        let error = Error::Invalid { message: "name: is bad; scopes[1]: is bad".to_owned(), violations };
        assert_eq!(problem_text(error), "name: is bad; scopes[1]: is bad");
    }

    #[test]
    fn requests_hold_every_row_once_and_in_order() {
        for (count, scopes) in [(0, 0), (1, 32), (500, 0), (1_001, 1), (1_200, 32)] {
            let rows = rows(count, scopes);
            let sent: Vec<_> = pages(&rows).flatten().map(|row| row.line).collect();
            assert_eq!(sent, rows.iter().map(|row| row.line).collect::<Vec<_>>());
        }
    }

    #[test]
    fn requests_stay_below_the_limits_of_the_service() {
        let short = rows(1_001, 1);
        assert_eq!(pages(&short).map(<[Row]>::len).collect::<Vec<_>>(), [500, 500, 1]);
        let long = rows(1_000, 32);
        for page in pages(&long) {
            let keys = page.iter().map(|row| row.key.clone()).collect();
            assert!(proto::ImportKeysRequest { keys }.encoded_len() <= MAX_REQUEST_BYTES);
            assert!(page.len() > 400 || page.last() == long.last(), "{} rows", page.len());
        }
    }
}
