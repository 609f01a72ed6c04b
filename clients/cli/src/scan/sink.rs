//! Where the results of a scan go.

use super::FoundKey;

/// A place with a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding<'a> {
    /// The file; after `!`, the entry of an archive; after `@`, the object of a repository. Contains no key.
    pub(crate) path: &'a str,
    /// The line, from 1; `None` if the key is in the name itself.
    pub(crate) line: Option<u64>,
    pub(crate) key: &'a FoundKey,
}

/// Receives the results of a scan, in the order in which they are found.
pub(crate) trait Sink {
    /// Receives a finding.
    ///
    /// # Errors
    /// When nobody reads the findings any more: the scan ends.
    fn found(&mut self, finding: Finding<'_>) -> Result<(), Stopped>;

    /// Receives what could not be read, or not completely. The scan continues.
    fn unread(&mut self, path: &str, why: &str);

    /// Counts bytes that were searched.
    fn searched(&mut self, bytes: u64);

    /// Counts a file, an entry of an archive, or an object of a repository.
    fn finished(&mut self);
}

/// The scan ends early, because nobody reads its findings any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;
