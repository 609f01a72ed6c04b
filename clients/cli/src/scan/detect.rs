//! Recognizes archives by their first bytes. Names say little: a `.jar` or a `.docx` is a zip archive.

/// An archive, or a compressed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArchiveKind {
    Gzip,
    Tar,
    Zip,
}

/// Bytes that are enough to recognize an archive: a block of a tar archive.
pub(super) const HEAD_LEN: usize = 512;

/// Position of the checksum in the header of a tar entry.
const TAR_CHECKSUM: std::ops::Range<usize> = 148..156;

impl ArchiveKind {
    /// Returns `None` for anything else.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            // Deflate, and none of the reserved flags.
            [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0 => Some(Self::Gzip),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            _ if is_tar(head) => Some(Self::Tar),
            _ => None,
        }
    }
}

/// Returns whether the first entry has a correct checksum: not every tar archive has a magic number, and a text
/// may contain one.
fn is_tar(head: &[u8]) -> bool {
    let Some(block) = head.get(..HEAD_LEN) else { return false };
    let digits = block[TAR_CHECKSUM].trim_ascii_start();
    let digits = digits.split(|byte| matches!(byte, 0 | b' ')).next().unwrap_or_default();
    let Some(expected) = str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 8).ok())
    else {
        return false;
    };
    // The checksum itself counts as blanks.
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let blanks = u32::from(b' ') * TAR_CHECKSUM.len() as u32;
    expected == sum(&block[..TAR_CHECKSUM.start]) + blanks + sum(&block[TAR_CHECKSUM.end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_recognized() {
        let mut header = ::tar::Header::new_old();
        header.set_path("a/b").unwrap();
        header.set_size(1);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        assert_eq!(ArchiveKind::of(&tar), Some(ArchiveKind::Tar));
        tar[0] = b'b';
        assert_eq!(ArchiveKind::of(&tar), None, "a wrong checksum");
        assert_eq!(ArchiveKind::of(b"PK\x03\x04"), Some(ArchiveKind::Zip));
        assert_eq!(ArchiveKind::of(b"\x1f\x8b\x08\x00"), Some(ArchiveKind::Gzip));
    }

    #[test]
    fn other_streams_are_no_archives() {
        let magic = [vec![b'x'; 257], b"ustar\0".to_vec(), vec![b'x'; 300]].concat();
        for head in [&b""[..], b"P", b"PK\x03", b"\x1f\x8b\x08\xff", &[0; 512], &[0xff; 512], &magic] {
            assert_eq!(ArchiveKind::of(head), None, "{head:?}");
        }
    }
}
