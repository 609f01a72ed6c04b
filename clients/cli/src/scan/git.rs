//! Scans the history of repositories.
//!
//! The objects come from the installed git, in one pipe (`git rev-list | git cat-file --batch`). It reads every kind
//! of repository that its owner can use, and a library that does so needs some sixty more crates.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

use super::{Scanner, Sink, Stopped};

/// The objects of a history: the arguments of `git rev-list`, and the types that are scanned of its result.
const LISTS: [(&[&str], &[&str]); 2] = [
    // Contents and tags. Named objects, such as the newest commits, are listed whatever their type is.
    (&["--objects", "--all", "--filter=object:type=blob", "--missing=print"], &["blob", "tag"]),
    // Messages and authors.
    (&["--all"], &["commit"]),
];
const BATCH_FORMAT: &str = "--batch=%(objectname) %(objecttype) %(objectsize) %(rest)";
/// Digits of an object id in a finding.
const ID_DIGITS: usize = 12;
/// Maximum length of the line before an object.
const MAX_HEADER_LEN: u64 = 64 * 1024;
/// Maximum length of a message of git that is shown.
const MAX_MESSAGE_LEN: u64 = 4 * 1024;

/// Scans each object that can be reached from a reference once. `seen` has the repositories that were scanned.
///
/// # Errors
/// Those of the sink. A repository that cannot be read is no error.
pub(super) fn scan_history<S: Sink>(
    scanner: &mut Scanner<'_, S>,
    seen: &mut HashSet<PathBuf>,
    repository: &Path,
) -> Result<(), Stopped> {
    let shown = scanner.redact(&repository.to_string_lossy());
    match common_folder(repository) {
        Ok(folder) => {
            if !seen.insert(folder) {
                return Ok(());
            }
        }
        Err(error) => {
            let why = scanner.redact(&error.to_string());
            scanner.sink.unread(&shown, &why);
            return Ok(());
        }
    }
    for (arguments, types) in LISTS {
        match Objects::start(repository, arguments) {
            Ok(mut objects) => {
                let result = scan_objects(scanner, &shown, &mut objects, types);
                let finished = objects.finish();
                if let Err(error) = finished.and(result?) {
                    let why = scanner.redact(&error.to_string());
                    scanner.sink.unread(&shown, &why);
                }
            }
            Err(error) => scanner.sink.unread(&shown, &error.to_string()),
        }
    }
    Ok(())
}

/// The outer result is that of the sink, the inner one that of git.
fn scan_objects<S: Sink>(
    scanner: &mut Scanner<'_, S>,
    repository: &str,
    objects: &mut Objects,
    types: &[&str],
) -> Result<io::Result<()>, Stopped> {
    loop {
        let header = match objects.header() {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let Some(header) = Header::parse(&header) else {
            let missing = String::from_utf8_lossy(&header);
            let missing = missing.split_whitespace().next().unwrap_or_default().trim_start_matches('?');
            scanner.sink.unread(&format!("{repository}@{missing}"), "is missing in the repository");
            continue;
        };
        let mut object = objects.stdout.by_ref().take(header.len);
        if types.contains(&header.kind)
            && let Some(path) = header.path(scanner, repository)?
        {
            scanner.scan_stream(&path, &mut object)?;
        }
        // The scan may have left a part, and a line end follows.
        let rest = object.limit();
        if let Err(error) = skip(&mut objects.stdout, rest + 1) {
            return Ok(Err(error));
        }
    }
}

/// The line before an object.
struct Header<'a> {
    id: &'a str,
    kind: &'a str,
    len: u64,
    /// A path of a file with this content, the name of a tag, or nothing.
    name: &'a [u8],
}

impl<'a> Header<'a> {
    /// Returns `None` for an object that the repository does not have.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let mut text = || str::from_utf8(parts.next()?).ok();
        let (id, kind, len) = (text()?, text()?, text()?.parse().ok()?);
        Some(Self { id, kind, len, name: parts.next().unwrap_or_default() })
    }

    /// Returns the path of the object in findings, or `None` if it is excluded.
    fn path<S: Sink>(
        &self,
        scanner: &mut Scanner<'_, S>,
        repository: &str,
    ) -> Result<Option<String>, Stopped> {
        let object = format!("{repository}@{}", self.id.get(..ID_DIGITS).unwrap_or(self.id));
        if self.name.is_empty() { Ok(Some(object)) } else { scanner.entry_path(&object, ':', self.name) }
    }
}

fn skip(stdout: &mut BufReader<ChildStdout>, len: u64) -> io::Result<()> {
    match io::copy(&mut stdout.take(len), &mut io::sink())? {
        skipped if skipped == len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The objects of a list, one after the other.
struct Objects {
    stdout: BufReader<ChildStdout>,
    processes: [(Child, JoinHandle<Vec<u8>>); 2],
}

impl Objects {
    fn start(repository: &Path, list: &[&str]) -> io::Result<Self> {
        let mut lister = spawn(git(repository).arg("rev-list").args(list).stdin(Stdio::null()))?;
        let ids = lister.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut reader = spawn(git(repository).args(["cat-file", "--buffer", BATCH_FORMAT]).stdin(ids))?;
        let stdout =
            BufReader::with_capacity(64 * 1024, reader.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        Ok(Self { stdout, processes: [lister, reader].map(with_messages) })
    }

    /// Returns the line before the next object, or `None` at the end.
    fn header(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.stdout.by_ref().take(MAX_HEADER_LEN).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Waits for git, and returns its message if it failed.
    fn finish(self) -> io::Result<()> {
        // A process that still writes ends.
        drop(self.stdout);
        let mut failures = Vec::new();
        for (mut child, messages) in self.processes {
            let status = child.wait()?;
            let messages = messages.join().unwrap_or_default();
            if !status.success() {
                failures.push(failure(&messages, status));
            }
        }
        // One process that fails makes the other one fail, without a message.
        failures.sort_by_key(|(has_message, _)| !has_message);
        failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }
}

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("--no-pager").arg("-C").arg(repository);
    // A hook of git sets some of these, for another repository.
    for variable in [
        "DIR",
        "WORK_TREE",
        "INDEX_FILE",
        "OBJECT_DIRECTORY",
        "ALTERNATE_OBJECT_DIRECTORIES",
        "COMMON_DIR",
        "NAMESPACE",
    ] {
        command.env_remove(format!("GIT_{variable}"));
    }
    // The history as it is, from this machine only, with messages in English.
    command
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_ALLOW_PROTOCOL", "none");
    command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn().map_err(|error| io::Error::new(error.kind(), format!("cannot run git: {error}")))
}

/// Reads the messages of a process meanwhile, since it would wait for a full pipe.
fn with_messages(mut child: Child) -> (Child, JoinHandle<Vec<u8>>) {
    let stderr = child.stderr.take();
    let read = move || {
        let mut messages = Vec::new();
        if let Some(mut stderr) = stderr {
            // The status of the process says whether it failed.
            let _ = stderr.by_ref().take(MAX_MESSAGE_LEN).read_to_end(&mut messages);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        messages
    };
    (child, thread::spawn(read))
}

/// Returns the error of a process, and whether it has a message.
fn failure(messages: &[u8], status: ExitStatus) -> (bool, io::Error) {
    let messages = String::from_utf8_lossy(messages);
    let messages = messages.trim().replace('\n', "; ");
    match messages.is_empty() {
        true => (false, io::Error::other(format!("git ended with {status}"))),
        false => (true, io::Error::other(format!("git: {messages}"))),
    }
}

/// Returns the folder of a repository that all its work trees share.
fn common_folder(repository: &Path) -> io::Result<PathBuf> {
    let child = spawn(git(repository).args(["rev-parse", "--git-common-dir"]).stdin(Stdio::null()))?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(failure(&output.stderr, output.status).1);
    }
    let printed = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    repository.join(path_of(printed)).canonicalize()
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::new(&*String::from_utf8_lossy(bytes)))
}

#[cfg(test)]
mod tests;
