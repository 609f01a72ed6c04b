//! Scans the entries of zip archives.

use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};

use zip::{ZipArchive, result::ZipError};

use super::{Scanner, Sink, stream::Interruption};

/// Maximum entries of an archive: its directory is held in memory, with some 500 bytes each.
const MAX_ENTRIES: u64 = 200_000;
/// Maximum size of an archive that is not a file. It is held in memory, because its directory is at its end.
const MAX_IN_MEMORY: u64 = 64 << 20;
/// Length of the record at the end of an archive, and of the comment after it.
const END_LEN: usize = 22;
const MAX_COMMENT_LEN: u64 = u16::MAX as u64;

impl<S: Sink> Scanner<'_, S> {
    pub(super) fn scan_zip_stream(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        depth: usize,
    ) -> Result<(), Interruption> {
        let mut bytes = Vec::new();
        stream.take(MAX_IN_MEMORY + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_IN_MEMORY {
            return Err(
                io::Error::other("is a zip archive of more than 64 MiB in a stream or an archive").into()
            );
        }
        self.scan_zip(path, &mut Cursor::new(bytes), depth)
    }

    pub(super) fn scan_zip(
        &mut self,
        path: &str,
        archive: &mut (impl Read + Seek),
        depth: usize,
    ) -> Result<(), Interruption> {
        let count = count_entries(archive)?;
        if count.max > MAX_ENTRIES {
            return Err(
                io::Error::other("has more than 200,000 entries: unpack it and scan the folder").into()
            );
        }
        archive.rewind()?;
        let mut archive = ZipArchive::new(BufReader::new(archive)).map_err(io::Error::from)?;
        if count.exact.is_some_and(|count| count > archive.len()) {
            self.sink.unread(path, "has several entries with the same name: only the last one was scanned");
        }
        for index in 0..archive.len() {
            self.limits.count_entry()?;
            let name = archive.name_for_index(index).unwrap_or_default().as_bytes().to_vec();
            let Some(entry_path) = self.entry_path(path, '!', &name)? else { continue };
            match archive.by_index(index) {
                Ok(entry) if entry.is_dir() => {}
                Ok(entry) => {
                    let mut unpacked = self.limits.metered(entry);
                    self.scan_entry(&entry_path, &mut unpacked, depth)?;
                }
                Err(ZipError::UnsupportedArchive(why)) => self.sink.unread(&entry_path, why),
                Err(error) => self.sink.unread(&entry_path, &error.to_string()),
            }
        }
        Ok(())
    }
}

/// The number of entries in the directory of an archive, according to the record at its end.
struct EntryCount {
    /// `None` if it is in another record, because it is large.
    exact: Option<usize>,
    max: u64,
}

fn count_entries(archive: &mut (impl Read + Seek)) -> io::Result<EntryCount> {
    /// Length of an entry with an empty name.
    const MIN_ENTRY_LEN: u64 = 46;
    let len = archive.seek(SeekFrom::End(0))?;
    archive.seek(SeekFrom::Start(len.saturating_sub(END_LEN as u64 + MAX_COMMENT_LEN)))?;
    let mut tail = Vec::new();
    archive.take(END_LEN as u64 + MAX_COMMENT_LEN).read_to_end(&mut tail)?;
    let end = memchr::memmem::rfind(&tail, b"PK\x05\x06");
    let Some(end) = end.and_then(|start| tail.get(start..start + END_LEN)) else {
        return Err(io::Error::other("is a zip archive without an end"));
    };
    let directory_len = match u32::from_le_bytes([end[12], end[13], end[14], end[15]]) {
        u32::MAX => len,
        directory_len => u64::from(directory_len),
    };
    Ok(match u16::from_le_bytes([end[10], end[11]]) {
        u16::MAX => EntryCount { exact: None, max: directory_len / MIN_ENTRY_LEN },
        count => EntryCount { exact: Some(count.into()), max: count.into() },
    })
}
