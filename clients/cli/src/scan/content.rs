//! Scans the content of a file or a stream, whatever it is.

use std::{
    fs::File,
    io::{self, Read, Seek as _},
};

use super::{
    Excludes, Finding, Matcher, Sink, Stopped,
    archive::{Limits, MAX_DEPTH},
    detect::{ArchiveKind, HEAD_LEN},
    stream::{Interruption, Window},
};

/// A file, and how many of its bytes are scanned.
type FileAndLen<'a> = (&'a File, u64);

/// Scans one content after the other.
#[derive(Debug)]
pub(crate) struct Scanner<'a, S> {
    matcher: &'a Matcher,
    excludes: &'a Excludes,
    pub(super) sink: &'a mut S,
    window: Window,
    pub(super) limits: Limits,
}

impl<'a, S: Sink> Scanner<'a, S> {
    pub(crate) fn new(matcher: &'a Matcher, excludes: &'a Excludes, sink: &'a mut S) -> Self {
        Self { matcher, excludes, sink, window: Window::new(), limits: Limits::default() }
    }

    /// Scans a file as it is when it is opened: what is appended later is not read, and the end may be missing.
    ///
    /// # Errors
    /// Those of the sink. A file that cannot be read is no error.
    pub(super) fn scan_file(&mut self, path: &str, file: io::Result<File>) -> Result<(), Stopped> {
        let opened = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((len, file)) => {
                // Files of the kernel have no length.
                let len = if len == 0 { u64::MAX } else { len };
                self.scan_from_start(path, &mut (&file).take(len), Some((&file, len)))
            }
            Err(error) => {
                // The message may contain the name of an entry.
                let text = self.redact(&error.to_string());
                self.sink.unread(path, &text);
                Ok(())
            }
        }
    }

    /// Scans a stream. A stream that cannot be read is no error.
    ///
    /// # Errors
    /// Those of the sink.
    pub(crate) fn scan_stream(&mut self, path: &str, stream: &mut dyn Read) -> Result<(), Stopped> {
        self.scan_from_start(path, stream, None)
    }

    fn scan_from_start(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        file: Option<FileAndLen<'_>>,
    ) -> Result<(), Stopped> {
        self.limits = Limits::default();
        match self.scan(path, stream, file, 0) {
            Ok(()) => Ok(()),
            Err(Interruption::Stopped(stopped)) => Err(stopped),
            Err(Interruption::Unreadable(error)) => {
                let text = self.redact(&error.to_string());
                self.sink.unread(path, &text);
                Ok(())
            }
        }
    }

    /// Scans an entry of an archive. Unless a limit is reached, an entry that cannot be read is no error: the next one
    /// may be readable.
    pub(super) fn scan_entry(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        depth: usize,
    ) -> Result<(), Interruption> {
        match self.scan(path, stream, None, depth + 1) {
            Err(Interruption::Unreadable(error)) if !self.limits.are_exceeded() => {
                let text = self.redact(&error.to_string());
                self.sink.unread(path, &text);
                Ok(())
            }
            result => result,
        }
    }

    /// Scans a stream that is inside `depth` archives. If it is that of a file, `file` is this file.
    pub(super) fn scan(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        file: Option<FileAndLen<'_>>,
        depth: usize,
    ) -> Result<(), Interruption> {
        let head = self.window.start(stream, HEAD_LEN)?;
        let Some(kind) = ArchiveKind::of(head) else { return self.search(path, stream) };
        if depth == MAX_DEPTH {
            return Err(io::Error::other(format!("is inside more than {MAX_DEPTH} archives")).into());
        }
        let head = head.to_vec();
        let mut stream = head.chain(stream);
        let result = match (kind, file) {
            (ArchiveKind::Zip, Some((mut file, _))) => self.scan_zip(path, &mut file, depth),
            (ArchiveKind::Zip, None) => self.scan_zip_stream(path, &mut stream, depth),
            (ArchiveKind::Gzip, _) => self.scan_gzip(path, &mut stream, depth),
            (ArchiveKind::Tar, _) => self.scan_tar(path, &mut stream, depth),
        };
        match (result, file) {
            // Perhaps it only looks like an archive.
            (Err(Interruption::Unreadable(error)), Some((mut file, len))) if !self.limits.are_exceeded() => {
                let text = self.redact(&error.to_string());
                self.sink.unread(path, &text);
                file.rewind()?;
                let mut stream = file.take(len);
                self.window.start(&mut stream, 1)?;
                self.search(path, &mut stream)
            }
            (result, _) => result,
        }
    }

    /// Searches the window and the rest of a stream.
    fn search(&mut self, path: &str, stream: &mut dyn Read) -> Result<(), Interruption> {
        // Both closures report to the sink, one after the other.
        let sink = std::cell::RefCell::new(&mut *self.sink);
        self.window.search(
            self.matcher,
            stream,
            |found, line| sink.borrow_mut().found(Finding { path, line: Some(line), key: &found.key }),
            |bytes| sink.borrow_mut().searched(bytes),
        )?;
        self.sink.finished();
        Ok(())
    }

    /// Returns whether a relative path is not to be scanned.
    pub(super) fn excludes(&self, path: &str) -> bool {
        self.excludes.contains(path)
    }

    /// Returns a text without the keys in it.
    pub(super) fn redact(&self, text: &str) -> String {
        self.matcher.redact(text).0
    }

    /// Reports the keys in a name. `path` is the path with that name.
    pub(super) fn scan_name(&mut self, path: &str, name: &str) -> Result<(), Stopped> {
        for key in &self.matcher.redact(name).1 {
            self.sink.found(Finding { path, line: None, key })?;
        }
        Ok(())
    }

    /// Reports the keys in the name of an entry. Returns the path of the entry, or `None` if it is excluded.
    pub(super) fn entry_path(
        &mut self,
        archive: &str,
        separator: char,
        name: &[u8],
    ) -> Result<Option<String>, Stopped> {
        let name = String::from_utf8_lossy(name);
        let name = name.trim_end_matches('/');
        if self.excludes(name) {
            return Ok(None);
        }
        let path = format!("{archive}{separator}{}", self.redact(name));
        self.scan_name(&path, name)?;
        Ok(Some(path))
    }
}
