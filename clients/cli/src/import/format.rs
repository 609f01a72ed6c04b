//! The format of an import file.

use std::path::Path;

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Detected from the file name, or else from the content
    Auto,
    /// Values separated by commas, semicolons or tabs, with a header
    Csv,
    /// One JSON object per line
    Jsonl,
}

impl Format {
    /// Resolves `Auto` for this file.
    pub(crate) fn resolve(self, path: &Path, bytes: &[u8]) -> Self {
        if self != Self::Auto {
            return self;
        }
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("csv" | "tsv") => Self::Csv,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            _ if looks_like_json(bytes) => Self::Jsonl,
            _ => Self::Csv,
        }
    }
}

/// An array too, although it is not accepted: then the problem is named as that of JSON.
fn looks_like_json(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_extension_beats_content_detection() {
        let resolve = |path: &str, bytes: &[u8]| Format::Auto.resolve(Path::new(path), bytes);
        assert_eq!(resolve("keys.CSV", b"{"), Format::Csv);
        assert_eq!(resolve("keys.ndjson", b""), Format::Jsonl);
        assert_eq!(resolve("-", b"\n {\"sha256\""), Format::Jsonl);
        assert_eq!(resolve("-", b"[{\"sha256\""), Format::Jsonl);
        assert_eq!(resolve("-", b"sha256,"), Format::Csv);
        assert_eq!(resolve("keys.tsv", b"{"), Format::Csv);
        assert_eq!(Format::Jsonl.resolve(Path::new("keys.csv"), b""), Format::Jsonl);
    }
}
