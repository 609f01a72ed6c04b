//! The file outside the database to which the audit log is copied.
//!
//! One process at a time writes it: the one that holds its lock. The position file is updated after the entries are
//! on disk, so after a crash the last entries may be in the file twice, and none is missing. Log rotation may rename
//! or truncate the file: the position is kept in a separate file.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::domain::{
    audit::{AuditCheckpoint, AuditEvent},
    clock::UnixMillis,
};

/// How far back the end of the last complete line is searched: more than the maximum length of an entry.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// The file, open and locked.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    file: File,
}

/// An entry in the file: the fields that `tenantctl --json audit list` shows.
#[derive(Serialize)]
struct AuditLine<'a> {
    seq: i64,
    at: String,
    caller: &'a str,
    action: &'a str,
    target: &'a str,
    tenant_id: &'a str,
    request_id: &'a str,
    detail: &'a str,
}

/// The content of the position file: the last copied entry; `at` in Unix milliseconds.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    seq: i64,
    at: i64,
    target: String,
    request_id: String,
}

impl AuditFile {
    /// Opens the file, and creates it if it does not exist. `None` while another process has locked it.
    ///
    /// # Errors
    /// When the file cannot be read and written.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        // Readable only by the owner and its group, because the audit log records who did what.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // After a power failure the directory entry of the position file may exist without that of this file, unless
        // the directory is synced.
        #[cfg(unix)]
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let mut opened = Self { path: path.to_owned(), file };
        opened.truncate_partial_line()?;
        Ok(Some(opened))
    }

    /// Returns the last copied entry; `None` before the first one.
    ///
    /// # Errors
    /// When the position file cannot be read, or its format is unknown.
    pub(crate) fn position(&self) -> io::Result<Option<AuditCheckpoint>> {
        let path = self.position_path();
        match fs::read(&path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(StoredPosition { seq, at, target, request_id }) => {
                    Ok(Some(AuditCheckpoint { seq, at: UnixMillis(at), target, request_id }))
                }
                Err(error) => {
                    let hint = "remove it to copy the audit log again from its beginning";
                    let message = format!("{}: {error}; {hint}", path.display());
                    Err(io::Error::new(io::ErrorKind::InvalidData, message))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Appends entries, and updates the position file once they are on disk.
    ///
    /// # Errors
    /// When the disk does not accept all of them; those that were written are truncated again.
    pub(crate) fn append(&mut self, events: &[AuditEvent]) -> io::Result<()> {
        let Some(last) = events.last() else { return Ok(()) };
        let mut text = Vec::new();
        for event in events {
            serde_json::to_writer(&mut text, &audit_line(event))?;
            text.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // If this fails too, the next process that opens the file truncates a partial line.
            let _ = self.file.set_len(before);
            return Err(error);
        }
        self.write_position(&AuditCheckpoint::of(last))
    }

    /// Whether the path still leads to this file: not after it was renamed or deleted.
    pub(crate) fn is_at_its_path(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
            let own_id = self.file.metadata().map(id);
            fs::metadata(&self.path).map(id).is_ok_and(|path_id| own_id.is_ok_and(|own_id| own_id == path_id))
        }
        #[cfg(not(unix))]
        self.path.exists()
    }

    /// Replaces the position file by renaming a new one over it: a position is written completely, or not at all.
    fn write_position(&self, checkpoint: &AuditCheckpoint) -> io::Result<()> {
        let (path, new) = (self.position_path(), with_suffix(&self.path, ".position.new"));
        let AuditCheckpoint { seq, at, target, request_id } = checkpoint.clone();
        let position = StoredPosition { seq, at: at.0, target, request_id };
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(&position)?)?;
        file.sync_data()?;
        fs::rename(&new, &path)
    }

    fn position_path(&self) -> PathBuf {
        with_suffix(&self.path, ".position")
    }

    /// Truncates a partial line that a crashed process has left: no position refers to it.
    fn truncate_partial_line(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let begin = length.saturating_sub(MAX_LINE_BYTES);
        self.file.seek(SeekFrom::Start(begin))?;
        let mut tail = Vec::new();
        self.file.read_to_end(&mut tail)?;
        let complete = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last as u64 + 1);
        if begin + complete < length {
            self.file.set_len(begin + complete)?;
        }
        Ok(())
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn audit_line(event: &AuditEvent) -> AuditLine<'_> {
    AuditLine {
        seq: event.seq,
        at: format_rfc3339_millis(event.at),
        caller: &event.caller,
        action: &event.action,
        target: &event.target,
        tenant_id: &event.tenant_id,
        request_id: &event.request_id,
        detail: &event.detail,
    }
}

/// Formats a time as RFC 3339; times outside the years 1970 to 9999 are clamped.
fn format_rfc3339_millis(at: UnixMillis) -> String {
    let millis = u64::try_from(at.min(UnixMillis::MAX).0).unwrap_or_default();
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64) -> AuditEvent {
        AuditEvent {
            seq,
            at: UnixMillis(1_700_000_000_123),
            caller: "an \"operator\"\n".to_owned(),
            action: "key.revoke".to_owned(),
            target: format!("key_{seq}"),
            tenant_id: "ten_1".to_owned(),
            request_id: "r".to_owned(),
            detail: String::new(),
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn open(path: &Path) -> AuditFile {
        AuditFile::open(path).unwrap().unwrap()
    }

    #[test]
    fn append_writes_lines_and_moves_position() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut file = open(&path);
        assert_eq!(file.position().unwrap(), None);
        file.append(&[]).unwrap();
        file.append(&[event(1), event(2)]).unwrap();
        assert_eq!(file.position().unwrap(), Some(AuditCheckpoint::of(&event(2))));
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["at"], "2023-11-14T22:13:20.123Z");
        assert_eq!((&lines[1]["seq"], &lines[1]["target"]), (&2.into(), &"key_2".into()));
        assert_eq!(lines[1]["caller"], "an \"operator\"\n");
    }

    #[test]
    fn audit_file_is_open_in_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let first = open(&path);
        assert!(AuditFile::open(&path).unwrap().is_none());
        drop(first);
        assert!(AuditFile::open(&path).unwrap().is_some());
    }

    #[test]
    fn partial_last_line_is_truncated_on_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        open(&path).append(&[event(1)]).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":2,\"at").unwrap();
        let mut file = open(&path);
        assert_eq!(lines(&path).len(), 1);
        file.append(&[event(2)]).unwrap();
        assert_eq!(lines(&path).len(), 2);
        drop(file);
        fs::write(&path, "no line at all").unwrap();
        open(&path);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }

    #[test]
    fn position_survives_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let mut file = open(&path);
        file.append(&[event(1)]).unwrap();
        assert!(file.is_at_its_path());
        fs::rename(&path, directory.path().join("audit.jsonl.1")).unwrap();
        assert!(!file.is_at_its_path());
        drop(file);
        let file = open(&path);
        assert!(file.is_at_its_path());
        assert_eq!(file.position().unwrap(), Some(AuditCheckpoint::of(&event(1))));
    }

    #[test]
    fn unreadable_position_error_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(directory.path().join("audit.jsonl.position"), "{").unwrap();
        let error = open(&path).position().unwrap_err().to_string();
        assert!(error.contains("audit.jsonl.position") && error.contains("remove it"), "{error}");
    }

    #[test]
    fn out_of_range_times_are_clamped() {
        assert_eq!(format_rfc3339_millis(UnixMillis(-5)), "1970-01-01T00:00:00.000Z");
        assert!(format_rfc3339_millis(UnixMillis(i64::MAX)).starts_with("9999-12-31"));
    }
}
