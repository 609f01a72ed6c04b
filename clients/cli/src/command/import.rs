//! `tenantctl key import`

mod send;

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use self::send::Ended;
use super::Context;
use crate::{
    exit::Exit,
    failure::{Failure, FieldProblem},
    import::{self, Format, KeyFile, Problem, Row},
    view::ImportView,
};

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
    let KeyFile { rows, repeated } =
        import::parse(&bytes, format, &command.tenant).map_err(|problems| file_failure(&name, &problems))?;
    // The rows have their values.
    drop(bytes);
    let mut view = ImportView {
        file: name,
        dry_run: command.dry_run,
        rows: rows.len(),
        repeated,
        ..ImportView::default()
    };
    if command.dry_run {
        context.output.show(&view)?;
        return Ok(Exit::Done);
    }
    let ended = send::send(&context.client()?.admin(), &rows, &mut view).await;
    // An import that failed at once has no result.
    if matches!(ended, Ended::Complete | Ended::Interrupted) || view.done > 0 {
        context.output.show(&view)?;
    }
    if !matches!(ended, Ended::Complete) {
        context.output.note(&progress_note(&rows, &view));
    }
    match ended {
        Ended::Complete if view.different.is_empty() && view.refused.is_empty() => Ok(Exit::Done),
        Ended::Complete => Ok(Exit::Denied),
        Ended::Interrupted => Ok(Exit::Interrupted),
        Ended::Failed(error) => Err(Failure::from_service(&[])(error)),
    }
}

/// Says how far an import got that ended early, and how to go on.
fn progress_note(rows: &[Row], view: &ImportView) -> String {
    let done = match view.done.checked_sub(1).and_then(|last| rows.get(last)) {
        Some(last) => format!("{} of {} rows are done, up to line {}", view.done, view.rows, last.line),
        None => format!("no row of {} is known to be done", view.rows),
    };
    format!(
        "the import ended early: {done}; run the same command again to continue: keys that were imported are \
         recognised as already present"
    )
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

#[cfg(test)]
mod tests {
    use tenant_auth_client::proto;

    use super::*;

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

    #[test]
    fn import_that_ended_early_says_how_far_it_got() {
        let rows = [4, 6].map(|line| Row { line, key: proto::ImportKey::default() });
        let note = |done| progress_note(&rows, &ImportView { rows: 2, done, ..ImportView::default() });
        assert!(note(0).starts_with("the import ended early: no row of 2 is known to be done; run the same"));
        assert!(
            note(1).starts_with("the import ended early: 1 of 2 rows are done, up to line 4; run the same")
        );
    }
}
