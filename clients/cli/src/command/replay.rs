//! `tenantctl audit replay`

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;
use tenant_auth_client::{AdminClient, Error};

use super::Context;
use crate::{
    args::When,
    exit::Exit,
    failure::Failure,
    retry::patiently,
    time::{self, Moment},
    view::{LostRow, ReplayView},
};

/// A line of a file is no longer than this; a list of `audit list` is one document, read as a whole.
const LONGEST: usize = 1 << 30;

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The file that the service wrote (TENANT_AUTH_AUDIT_FILE), or what `tenantctl --json audit list` wrote; - for standard input
    file: PathBuf,

    /// Only what was done from then on: the moment of the backup, such as 2030-01-31T00:00:00Z, or a time ago such as 2h
    #[arg(long, value_parser = When::parse, value_name = "WHEN")]
    since: When,

    /// What the audit log is to say
    #[arg(long, default_value = "again, from the audit log", value_name = "TEXT")]
    reason: String,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is needed of an entry.
#[derive(Debug, Deserialize)]
struct Entry {
    at: String,
    action: String,
    target: String,
    #[serde(default)]
    tenant_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct List {
    events: Vec<Entry>,
}

/// What has to be true at the end, however often it was changed to and fro.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ends {
    keys: BTreeMap<String, End>,
    tenants: BTreeMap<String, End>,
    lost: Vec<LostRow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Revoked,
    Suspended,
    Resumed,
}

impl Ends {
    fn note(&mut self, entry: Entry) {
        match entry.action.as_str() {
            "key.revoke" => drop(self.keys.insert(entry.target, End::Revoked)),
            "tenant.suspend" => drop(self.tenants.insert(entry.target, End::Suspended)),
            "tenant.resume" => drop(self.tenants.insert(entry.target, End::Resumed)),
            // Nothing but a digest of it was ever stored, and the log does not have that.
            "key.issue" | "key.import" | "key.rotate" | "tenant.create" => self.lost.push(LostRow {
                action: entry.action,
                target: entry.target,
                tenant_id: entry.tenant_id.filter(|id| !id.is_empty()),
            }),
            // Of this replica, or this database: not of what a backup holds.
            _ => {}
        }
    }
}

pub(super) async fn run(context: &Context, command: Replay) -> Result<Exit, Failure> {
    let name = match command.file == Path::new("-") {
        true => "<stdin>".to_owned(),
        false => command.file.display().to_string(),
    };
    let [since] = When::moments([Some(command.since)], async || context.now().await).await?;
    let ends = open(&command.file)
        .map_err(|error| format!("cannot read {name}: {error}"))
        .and_then(|reader| read(reader, since).map_err(|problem| format!("{name}:{problem}")))
        .map_err(Failure::usage)?;
    let mut view = ReplayView::new(name, command.dry_run);
    let admin = if command.dry_run { None } else { Some(context.client()?.admin()) };
    // Keys first: those of a tenant that is resumed are to be revoked before they are good again.
    for (target, end) in ends.keys.into_iter().chain(ends.tenants) {
        let done = match &admin {
            Some(admin) => again(admin, &target, end, &command.reason).await,
            None => Ok(()),
        };
        match done {
            Ok(()) => match end {
                End::Revoked => view.revoked.push(target),
                End::Suspended => view.suspended.push(target),
                End::Resumed => view.resumed.push(target),
            },
            Err(Error::NotFound { .. }) => view.absent.push(target),
            Err(error) => {
                if !view.is_empty() {
                    context.output.note("some of it was done before; run it again to go on");
                }
                return Err(Failure::naming(&[])(error));
            }
        }
    }
    view.lost = ends.lost;
    context.output.show(&view)?;
    Ok(Exit::Done)
}

async fn again(admin: &AdminClient, target: &str, end: End, reason: &str) -> Result<(), Error> {
    match end {
        End::Revoked => patiently(async || admin.revoke_key(target, reason).await).await.map(drop),
        End::Suspended => patiently(async || admin.suspend_tenant(target, reason).await).await.map(drop),
        End::Resumed => patiently(async || admin.resume_tenant(target).await).await.map(drop),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    match path == Path::new("-") {
        true => Ok(Box::new(BufReader::new(io::stdin()))),
        false => Ok(Box::new(BufReader::new(File::open(path)?))),
    }
}

/// What the entries since a moment come to, in the order in which they were made. The problem begins with its line.
fn read(mut reader: impl BufRead, since: Option<Moment>) -> Result<Ends, String> {
    let mut ends = Ends::default();
    let mut note = |number: u64, entry: Entry| {
        let at = time::moment(&entry.at)
            .map_err(|_| format!("{number}: {:?} is no moment such as 2030-01-31T00:00:00Z", entry.at))?;
        if since.is_none_or(|since| at >= since) {
            ends.note(entry);
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
        match serde_json::from_slice::<Entry>(line) {
            Ok(entry) => note(number, entry)?,
            Err(_) if is_list => {
                io::Read::read_to_end(&mut io::Read::take(&mut reader, LONGEST as u64), &mut text)
                    .map_err(|error| format!("{number}: {error}"))?;
                let list: List = serde_json::from_slice(&text).map_err(|error| {
                    format!("{number}: neither an entry of the audit log nor a list of them: {error}")
                })?;
                // The latest is the first.
                for entry in list.events.into_iter().rev() {
                    note(number, entry)?;
                }
            }
            Err(error) => return Err(format!("{number}: no entry of the audit log: {error}")),
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: &str, action: &str, target: &str) -> String {
        format!(
            r#"{{"seq":1,"at":"{at}","caller":"a","action":"{action}","target":"{target}","tenant_id":"t","request_id":"","detail":""}}"#
        )
    }

    fn ends(text: &str, since: &str) -> Result<Ends, String> {
        read(text.as_bytes(), time::moment(since).ok())
    }

    #[test]
    fn what_was_changed_to_and_fro_is_as_it_was_last() {
        let lines = [
            line("2030-01-01T00:00:00.500Z", "key.revoke", "before"),
            line("2030-01-01T00:00:01.000Z", "key.revoke", "k"),
            line("2030-01-01T00:00:02.000Z", "tenant.suspend", "a"),
            line("2030-01-01T00:00:03.000Z", "tenant.suspend", "b"),
            line("2030-01-01T00:00:04.000Z", "tenant.resume", "a"),
            line("2030-01-01T00:00:05.000Z", "key.issue", "new"),
            line("2030-01-01T00:00:06.000Z", "usage.repair", "t"),
        ];
        let found = ends(&lines.join("\n"), "2030-01-01T00:00:01Z").unwrap();
        assert_eq!(found.keys, BTreeMap::from([("k".to_owned(), End::Revoked)]));
        let tenants = BTreeMap::from([("a".to_owned(), End::Resumed), ("b".to_owned(), End::Suspended)]);
        assert_eq!(found.tenants, tenants);
        assert_eq!(found.lost.iter().map(|row| row.target.as_str()).collect::<Vec<_>>(), ["new"]);
    }

    #[test]
    fn a_list_is_read_from_its_end_for_the_latest_comes_first() {
        let events = [
            line("2030-01-01T00:00:02Z", "tenant.resume", "a"),
            line("2030-01-01T00:00:01Z", "tenant.suspend", "a"),
        ];
        for list in [
            format!("{{\"events\":[{}],\"has_more\":false}}\n", events.join(",")),
            format!("{{\n  \"events\": [\n{}\n]}}\n", events.join(",\n")),
        ] {
            let found = ends(&list, "2030-01-01T00:00:00Z").unwrap();
            assert_eq!(found.tenants, BTreeMap::from([("a".to_owned(), End::Resumed)]), "{list}");
        }
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        let good = line("2030-01-01T00:00:01Z", "key.revoke", "k");
        for (text, problem) in [
            (format!("{good}\n{{}}\n"), "2: no entry of the audit log"),
            ("{}".to_owned(), "1: neither an entry of the audit log nor a list of them"),
            (good.replace("2030-01-01T00:00:01Z", "soon"), "1: \"soon\" is no moment"),
        ] {
            let found = ends(&text, "2030-01-01T00:00:00Z").unwrap_err();
            assert!(found.starts_with(problem), "{found}");
        }
        assert_eq!(ends("\n\n", "2030-01-01T00:00:00Z"), Ok(Ends::default()));
    }
}
