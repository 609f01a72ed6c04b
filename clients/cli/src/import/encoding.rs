//! The character encoding of an import file: UTF-8, with or without a byte order mark.

use super::row::Problem;

/// Spreadsheets write a byte order mark at the start.
const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Returns the content after a byte order mark. Single values that are not UTF-8 are found later, with their
/// columns.
///
/// # Errors
/// When the file is UTF-16: its lines have other separators.
pub(super) fn content(bytes: &[u8]) -> Result<&[u8], Problem> {
    let has_mark = UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark));
    // Without a mark: one of the two bytes of an ASCII character is zero.
    if has_mark || matches!(bytes, [0, ..] | [_, 0, ..]) {
        let fix = "save it as UTF-8 (in a spreadsheet, \"CSV UTF-8\"), or convert it with `iconv -f UTF-16 -t UTF-8`";
        return Err(Problem::for_row(1, format!("the file is UTF-16: {fix}")));
    }
    Ok(bytes.strip_prefix(UTF_8_MARK).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_mark_of_utf_8_is_removed() {
        assert_eq!(content(b"\xef\xbb\xbfsha256"), Ok(&b"sha256"[..]));
        assert_eq!(content(b"sha256"), Ok(&b"sha256"[..]));
        assert_eq!(content(b""), Ok(&b""[..]));
    }

    #[test]
    fn utf_16_file_is_named_with_the_fix() {
        let little: Vec<u8> = "sha256".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = "sha256".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let with_mark = |mark: &[u8], text: &[u8]| [mark, text].concat();
        for file in [&little, &big, &with_mark(b"\xff\xfe", &little), &with_mark(b"\xfe\xff", &big)] {
            let problem = content(file).unwrap_err().to_string();
            assert!(problem.starts_with("1: the file is UTF-16: save it as UTF-8"), "{problem}");
        }
    }
}
