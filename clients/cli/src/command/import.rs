//! `tenantctl key import`

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tenant_auth_client::{AdminClient, Error, ImportedKey};

use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldProblem},
    import::{self, Format, Problem, Row},
    output::Output,
    retry,
    view::{ImportView, RefusedRow},
};

/// Maximum keys of one request that the service accepts.
const MAX_KEYS_PER_REQUEST: usize = 500;
/// More would not be read, and the first ones usually explain the rest.
const MAX_SHOWN_PROBLEMS: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// File to import, or - for standard input
    file: PathBuf,

    /// Format of the file
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,

    /// Tenant of rows without a tenant
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
    tenant: String,

    /// Check the file without sending anything
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, command: Import) -> Result<Exit, Failure> {
    let name = if command.file == Path::new("-") {
        "<stdin>".to_owned()
    } else {
        command.file.display().to_string()
    };
    let bytes =
        read_input(&command.file).map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    let format = command.format.resolve(&command.file, &bytes);
    let rows =
        import::parse(&bytes, format, &command.tenant).map_err(|problems| file_failure(&name, &problems))?;
    let mut view = ImportView {
        file: name,
        dry_run: command.dry_run,
        rows: rows.len(),
        imported: 0,
        existing: 0,
        refused: Vec::new(),
    };
    if !command.dry_run {
        send(&context.client()?.admin(), context.output, &rows, &mut view).await?;
    }
    context.output.show(&view)?;
    Ok(if view.refused.is_empty() { Exit::Done } else { Exit::Denied })
}

fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    } else {
        fs::read(path)
    }
}

fn file_failure(name: &str, problems: &[Problem]) -> Failure {
    let field_problem = |problem: &Problem| FieldProblem {
        field: problem.location(name),
        description: problem.text().to_owned(),
    };
    let summary = match problems.len() {
        count if count > MAX_SHOWN_PROBLEMS => {
            format!(" ({count} problems; showing the first {MAX_SHOWN_PROBLEMS})")
        }
        _ => String::new(),
    };
    Failure::Usage {
        sentence: format!("{name} is invalid; nothing was sent{summary}"),
        violations: problems.iter().take(MAX_SHOWN_PROBLEMS).map(field_problem).collect(),
        hint: None,
    }
}

async fn send(
    admin: &AdminClient,
    output: Output,
    rows: &[Row],
    view: &mut ImportView,
) -> Result<(), Failure> {
    // Draws nothing if standard error is not a terminal.
    let bar = ProgressBar::new(rows.len() as u64).with_style(progress_style());
    for page in rows.chunks(MAX_KEYS_PER_REQUEST) {
        let keys: Vec<_> = page.iter().map(|row| row.key.clone()).collect();
        let response = retry::with_retries(async || admin.import_keys(keys.clone()).await).await;
        let outcomes = response.map_err(|error| {
            bar.abandon();
            let done = view.imported + view.existing + view.refused.len();
            if done > 0 {
                output.note(&format!(
                    "{done} of {} rows were sent; run the import again to continue",
                    rows.len()
                ));
            }
            Failure::from_service(&[])(error)
        })?;
        for (row, outcome) in page.iter().zip(outcomes) {
            count_outcome(row, outcome, view);
        }
        bar.inc(page.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} rows, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn count_outcome(row: &Row, outcome: Result<ImportedKey, Error>, view: &mut ImportView) {
    match outcome {
        Ok(ImportedKey::New { .. }) => view.imported += 1,
        Ok(ImportedKey::Existing { .. }) => view.existing += 1,
        Ok(ImportedKey::Different { key_id, fields }) => view.refused.push(RefusedRow {
            line: row.line,
            tenant_id: row.key.tenant_id.clone(),
            problem: format!("exists as {key_id} with other values of {}", fields.join(", ")),
        }),
        Err(error) => view.refused.push(RefusedRow {
            line: row.line,
            tenant_id: row.key.tenant_id.clone(),
            problem: problem_text(error),
        }),
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
    use tenant_auth_client::Violation;

    use super::*;

    #[test]
    fn rejected_row_shows_the_problem() {
        let violation = |field: &str| Violation { field: field.to_owned(), description: "is bad".to_owned() };
        let violations = vec![violation("name"), violation("scopes[1]")];
        let error = Error::Invalid { message: "name: is bad; scopes[1]: is bad".to_owned(), violations };
        assert_eq!(problem_text(error), "name: is bad; scopes[1]: is bad");
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let problems: Vec<_> = (1..=25).map(|line| Problem::new(line, "name", "is bad")).collect();
        let Failure::Usage { sentence, violations, .. } = file_failure("keys.csv", &problems) else {
            panic!("an invalid file is a usage error");
        };
        assert!(sentence.ends_with("nothing was sent (25 problems; showing the first 20)"), "{sentence}");
        assert_eq!(violations.len(), 20);
        assert_eq!((&*violations[0].field, &*violations[0].description), ("keys.csv:1: name", "is bad"));
    }
}
