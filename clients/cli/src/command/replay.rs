//! `tenantctl audit replay`

mod deletion;
mod states;
mod step;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;
use tenant_auth_client::Error;

use self::states::{FinalStates, ReplayEntry};
use super::Context;
use crate::{
    args::When,
    exit::Exit,
    failure::Failure,
    retry::with_retries,
    time::{self, Moment},
    view::ReplayView,
};

/// Maximum size of a saved list, which is one document and is read as a whole. A line of an audit log copy is
/// shorter.
const MAX_LIST_BYTES: usize = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Audit log copy of the service (TENANT_AUTH_AUDIT_FILE), or the output of `tenantctl --json audit list`; - for standard input
    file: PathBuf,

    /// Only changes since the time of the backup, such as 2030-01-31T00:00:00Z, or a duration before now, such as 2h
    #[arg(long, value_parser = When::parse, value_name = "WHEN")]
    since: When,

    /// Reason, for the audit log
    #[arg(long, default_value = "again, from the audit log", value_name = "TEXT")]
    reason: String,

    /// Show what would be done, without doing it
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
struct List {
    events: Vec<ReplayEntry>,
}

pub(super) async fn run(context: &Context, command: Replay) -> Result<Exit, Failure> {
    let name = match command.file == Path::new("-") {
        true => "<stdin>".to_owned(),
        false => command.file.display().to_string(),
    };
    let [since] = When::moments([Some(command.since)], async || context.now().await).await?;
    let states = open_input(&command.file)
        .map_err(|error| format!("cannot read {name}: {error}"))
        .and_then(|reader| read_entries(reader, since).map_err(|problem| format!("{name}:{problem}")))
        .map_err(Failure::usage)?;
    let mut view = ReplayView::new(name, command.dry_run);
    let admin = if command.dry_run { None } else { Some(context.client()?.admin()) };
    for step in states.steps() {
        let outcome = match &admin {
            Some(admin) => with_retries(async || step.send(admin, &command.reason).await).await,
            None => Ok(()),
        };
        match outcome {
            Ok(()) => step.record(&mut view),
            Err(Error::NotFound { .. }) => view.absent.push(step.target),
            Err(error) => {
                if !view.is_empty() {
                    context.output.note("some changes were applied; run the replay again to continue");
                }
                return Err(Failure::from_service(&[])(error));
            }
        }
    }
    view.lost = states.lost;
    context.output.show(&view)?;
    Ok(Exit::Done)
}

fn open_input(path: &Path) -> io::Result<Box<dyn BufRead>> {
    match path == Path::new("-") {
        true => Ok(Box::new(BufReader::new(io::stdin()))),
        false => Ok(Box::new(BufReader::new(File::open(path)?))),
    }
}

/// Returns the final states of the entries since a time, in the order of the log. An error starts with its
/// line number.
fn read_entries(mut reader: impl BufRead, since: Option<Moment>) -> Result<FinalStates, String> {
    let mut states = FinalStates::default();
    let mut apply = |number: u64, entry: ReplayEntry| {
        let at = time::parse_moment(&entry.at).map_err(|_| {
            format!("{number}: invalid time {:?}: must be RFC 3339, such as 2030-01-31T00:00:00Z", entry.at)
        })?;
        if since.is_none_or(|since| at >= since) {
            states.apply(at, entry);
        }
        Ok::<_, String>(())
    };
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let length = reader.read_until(b'\n', &mut text).map_err(|error| format!("{number}: {error}"))?;
        if length == 0 {
            break;
        }
        let line = text.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let is_list = number == 1 && !line.starts_with(br#"{"seq""#);
        match serde_json::from_slice::<ReplayEntry>(line) {
            Ok(entry) => apply(number, entry)?,
            Err(_) if is_list => {
                io::Read::read_to_end(&mut io::Read::take(&mut reader, MAX_LIST_BYTES as u64), &mut text)
                    .map_err(|error| format!("{number}: {error}"))?;
                let list: List = serde_json::from_slice(&text).map_err(|error| {
                    format!("{number}: neither an audit log entry nor a list of entries: {error}")
                })?;
                // The list is latest first.
                for entry in list.events.into_iter().rev() {
                    apply(number, entry)?;
                }
            }
            Err(error) => return Err(format!("{number}: invalid audit log entry: {error}")),
        }
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        deletion::Deletion,
        states::FinalState,
        step::{Reapplied, Step, UpdatedValues},
        *,
    };

    fn line(at: &str, action: &str, target: &str) -> String {
        format!(
            r#"{{"seq":1,"at":"{at}","caller":"a","action":"{action}","target":"{target}","tenant_id":"t","request_id":"","detail":""}}"#
        )
    }

    fn final_states(text: &str, since: &str) -> Result<FinalStates, String> {
        read_entries(text.as_bytes(), time::parse_moment(since).ok())
    }

    #[test]
    fn last_change_of_each_target_wins() {
        let lines = [
            line("2030-01-01T00:00:00.500Z", "key.revoke", "before"),
            line("2030-01-01T00:00:01.000Z", "key.revoke", "k"),
            line("2030-01-01T00:00:02.000Z", "tenant.suspend", "a"),
            line("2030-01-01T00:00:03.000Z", "tenant.suspend", "b"),
            line("2030-01-01T00:00:04.000Z", "tenant.resume", "a"),
            line("2030-01-01T00:00:05.000Z", "key.issue", "new"),
            line("2030-01-01T00:00:06.000Z", "usage.repair", "t"),
            line("2030-01-01T00:00:07.000Z", "tenant.suspend", "c"),
            line("2030-01-01T00:00:08.000Z", "tenant.delete", "c"),
            line("2030-01-01T00:00:09.000Z", "tenant.suspend", "d"),
            line("2030-01-01T00:00:10.000Z", "tenant.delete", "d"),
            line("2030-01-01T00:00:11.000Z", "tenant.create", "d"),
            line("2030-01-01T00:00:12.000Z", "tenant.suspend", "d"),
        ];
        let found = final_states(&lines.join("\n"), "2030-01-01T00:00:01Z").unwrap();
        assert_eq!(found.keys, BTreeMap::from([("k".to_owned(), FinalState::Revoked)]));
        let tenants = BTreeMap::from([
            ("a".to_owned(), FinalState::Resumed),
            ("b".to_owned(), FinalState::Suspended),
            // The second tenant with this id.
            ("d".to_owned(), FinalState::Suspended),
        ]);
        assert_eq!(found.tenants, tenants);
        let deletion = |at| Deletion { at: time::parse_moment(at).unwrap(), with_usage: false };
        let deleted = BTreeMap::from([
            ("c".to_owned(), deletion("2030-01-01T00:00:08Z")),
            ("d".to_owned(), deletion("2030-01-01T00:00:10Z")),
        ]);
        assert_eq!(found.deleted_tenants, deleted);
        assert_eq!(found.lost.iter().map(|row| row.target.as_str()).collect::<Vec<_>>(), ["new", "d"]);
    }

    fn update(action: &str, target: &str, after: &str) -> String {
        let detail = serde_json::json!({ "before": {}, "after": serde_json::from_str::<serde_json::Value>(after).unwrap() });
        let detail = serde_json::to_string(&detail.to_string()).unwrap();
        line("2030-01-01T00:00:01Z", action, target)
            .replace(r#""detail":"""#, &format!("\"detail\":{detail}"))
    }

    #[test]
    fn last_value_of_each_field_is_replayed() {
        let lines = [
            update("key.update", "k", r#"{"scopes":["a","b"],"enabled":false}"#),
            update("key.update", "k", r#"{"scopes":["a"],"expires_at":null}"#),
            update("key.update", "gone", r#"{"enabled":true}"#),
            update("tenant.update", "t", r#"{"plan":"free","leak_policy":null}"#),
            update("key.leak", "k", r#"{}"#),
            update("key.leak", "notified", r#"{}"#),
            line("2030-01-01T00:00:02Z", "key.revoke", "gone"),
            line("2030-01-01T00:00:02Z", "key.update", "unreadable"),
        ];
        let found = final_states(&lines.join("\n"), "2030-01-01T00:00:00Z").unwrap();
        let steps: Vec<_> = found.steps().collect();
        let key = UpdatedValues {
            scopes: Some(vec!["a".to_owned()]),
            expires_at: Some(None),
            enabled: Some(false),
            ..UpdatedValues::default()
        };
        let tenant = UpdatedValues {
            plan: Some("free".to_owned()),
            leak_policy: Some(None),
            ..UpdatedValues::default()
        };
        let expected = [
            ("gone", Reapplied::State(FinalState::Revoked)),
            ("k", Reapplied::KeyUpdate(key)),
            ("t", Reapplied::TenantUpdate(tenant)),
        ];
        assert_eq!(steps, expected.map(|(target, reapplied)| Step { target: target.to_owned(), reapplied }));
        assert_eq!(found.lost.iter().map(|row| row.target.as_str()).collect::<Vec<_>>(), ["unreadable"]);
    }

    #[test]
    fn list_is_replayed_oldest_first() {
        let events = [
            line("2030-01-01T00:00:02Z", "tenant.resume", "a"),
            line("2030-01-01T00:00:01Z", "tenant.suspend", "a"),
        ];
        for list in [
            format!("{{\"events\":[{}],\"has_more\":false}}\n", events.join(",")),
            format!("{{\n  \"events\": [\n{}\n]}}\n", events.join(",\n")),
        ] {
            let found = final_states(&list, "2030-01-01T00:00:00Z").unwrap();
            assert_eq!(found.tenants, BTreeMap::from([("a".to_owned(), FinalState::Resumed)]), "{list}");
        }
    }

    #[test]
    fn invalid_line_is_named() {
        let good = line("2030-01-01T00:00:01Z", "key.revoke", "k");
        for (text, problem) in [
            (format!("{good}\n{{}}\n"), "2: invalid audit log entry"),
            ("{}".to_owned(), "1: neither an audit log entry nor a list of entries"),
            (good.replace("2030-01-01T00:00:01Z", "soon"), "1: invalid time \"soon\""),
        ] {
            let found = final_states(&text, "2030-01-01T00:00:00Z").unwrap_err();
            assert!(found.starts_with(problem), "{found}");
        }
        assert_eq!(final_states("\n\n", "2030-01-01T00:00:00Z"), Ok(FinalStates::default()));
    }
}
