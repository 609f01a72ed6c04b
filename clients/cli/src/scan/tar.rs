//! Scans the entries of tar archives.

use std::io::{self, Read};

use tar::{Archive, EntryType};

use super::{Scanner, Sink, stream::Interruption};

/// Maximum length of an extended header. A name has at most 4,096 bytes.
const MAX_EXTENDED_HEADER: u64 = 64 * 1024;

impl<S: Sink> Scanner<'_, S> {
    pub(super) fn scan_tar(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        depth: usize,
    ) -> Result<(), Interruption> {
        let mut archive = Archive::new(stream);
        let mut long_name = None;
        // Raw: otherwise an extended header of any length would be read into memory.
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            self.limits.count_entry()?;
            let kind = entry.header().entry_type();
            match kind {
                EntryType::GNULongName => {
                    let name = read_header(&mut entry)?;
                    long_name = name.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
                    continue;
                }
                EntryType::XHeader => {
                    long_name = pax_path(&read_header(&mut entry)?).or(long_name);
                    continue;
                }
                EntryType::XGlobalHeader | EntryType::GNULongLink => continue,
                _ => {}
            }
            let name = long_name.take().unwrap_or_else(|| entry.header().path_bytes().into_owned());
            let Some(entry_path) = self.entry_path(path, '!', &name)? else { continue };
            // Links, folders and devices have no content.
            if entry.size() > 0 {
                self.scan_entry(&entry_path, &mut entry, depth)?;
            }
        }
        Ok(())
    }
}

fn read_header(entry: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    entry.take(MAX_EXTENDED_HEADER).read_to_end(&mut header)?;
    Ok(header)
}

/// Returns the path of an extended header, which consists of lines `<length> <name>=<value>`.
fn pax_path(mut header: &[u8]) -> Option<Vec<u8>> {
    loop {
        let blank = header.iter().position(|byte| *byte == b' ')?;
        let len = str::from_utf8(&header[..blank]).ok()?.parse().ok()?;
        let line = header.get(blank + 1..len)?;
        if let Some(path) = line.strip_prefix(b"path=") {
            return Some(path.strip_suffix(b"\n").unwrap_or(path).to_vec());
        }
        header = &header[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_an_extended_header_is_read() {
        let header = b"20 mtime=1234567890\n12 path=a/b\n";
        assert_eq!(pax_path(header).as_deref(), Some(&b"a/b"[..]));
        for broken in [&b""[..], b"x", b"5 a=b", b"0 a=b\n", b"99999999999999999999 path=a\n", b"7 a=bc\n"] {
            assert_eq!(pax_path(broken), None, "{broken:?}");
        }
    }
}
