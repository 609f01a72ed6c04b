//! Parses values separated by commas, semicolons or tabs, with a header.

use csv::{ByteRecord, Position, ReaderBuilder};

use super::row::{Cells, Problem, Row, known_column, unknown_column};

/// The separators, and their names in messages.
const SEPARATORS: [(u8, &str); 3] = [(b',', "commas"), (b';', "semicolons"), (b'\t', "tabs")];

pub(super) fn parse(bytes: &[u8], default_tenant: &str) -> (Vec<Row>, Vec<Problem>) {
    let separator = match find_separator(bytes) {
        Ok(separator) => separator,
        Err(problem) => return (Vec::new(), vec![problem]),
    };
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(separator)
        // Rows of another length get a message of this program.
        .flexible(true)
        .from_reader(bytes);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut header: Option<Vec<&'static str>> = None;
    for record in reader.byte_records() {
        let Ok(record) = record else {
            // This cannot fail: the input is in memory, and rows may have any length.
            problems.push(Problem::for_row(1, "invalid CSV"));
            break;
        };
        let line = record.position().map_or(1, |start| line_number(bytes, start));
        let Some(columns) = &header else {
            match read_header(&record, line) {
                Ok(columns) => header = Some(columns),
                Err(found) => return (rows, found),
            }
            continue;
        };
        // Spreadsheets write lines of separators only after the last row.
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            continue;
        }
        match read_row(&record, (columns, separator), line, default_tenant) {
            Ok(row) => rows.push(row),
            Err(found) => problems.extend(found),
        }
    }
    if header.is_none() && problems.is_empty() {
        problems.push(Problem::for_row(1, "empty file: a header with sha256 is required"));
    }
    (rows, problems)
}

/// Returns the separator of the header. A header with one column has none.
///
/// # Errors
/// When the header has several: with each of them, the rows would read differently.
fn find_separator(bytes: &[u8]) -> Result<u8, Problem> {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = bytes.iter().position(|byte| !is_line_end(byte)).unwrap_or(bytes.len());
    let header = bytes[start..].split(is_line_end).next().unwrap_or_default();
    // Every second part is inside quotes.
    let unquoted: Vec<&[u8]> = header.split(|byte| *byte == b'"').step_by(2).collect();
    let is_used = |separator: u8| unquoted.iter().any(|part| part.contains(&separator));
    let used: Vec<_> = SEPARATORS.into_iter().filter(|(separator, _)| is_used(*separator)).collect();
    match used[..] {
        [] => Ok(b','),
        [(separator, _)] => Ok(separator),
        _ => {
            let names: Vec<_> = used.iter().map(|(_, name)| *name).collect();
            let line = 1 + bytes[..start].iter().filter(|byte| **byte == b'\n').count() as u64;
            let text = format!("the header has {}: use one separator in the whole file", names.join(" and "));
            Err(Problem::for_row(line, text))
        }
    }
}

/// Returns the line on which a record starts. The reader's own count does not include empty lines before it.
fn line_number(bytes: &[u8], start: &Position) -> u64 {
    let start_byte = usize::try_from(start.byte()).unwrap_or(usize::MAX);
    let following = bytes.get(start_byte..).unwrap_or_default().iter();
    let skipped = following.take_while(|byte| matches!(byte, b'\r' | b'\n'));
    skipped.fold(start.line(), |line, byte| line + u64::from(*byte == b'\n'))
}

fn read_header(record: &ByteRecord, line: u64) -> Result<Vec<&'static str>, Vec<Problem>> {
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for (number, cell) in (1..).zip(record) {
        let name = str::from_utf8(cell).unwrap_or_default();
        match known_column(name) {
            Some(column) if columns.contains(&column) => {
                problems.push(Problem::new(line, column, "duplicate column"));
            }
            Some(column) => columns.push(column),
            None if cell.trim_ascii().is_empty() => {
                problems.push(Problem::for_row(line, format!("column {number} has no name: remove it")));
            }
            None => problems.push(Problem::for_row(line, unknown_column(name))),
        }
    }
    if problems.is_empty() && !columns.contains(&"sha256") {
        problems.push(Problem::new(line, "sha256", "missing from the header"));
    }
    if problems.is_empty() { Ok(columns) } else { Err(problems) }
}

fn read_row(
    record: &ByteRecord,
    (columns, separator): (&[&'static str], u8),
    line: u64,
    default_tenant: &str,
) -> Result<Row, Vec<Problem>> {
    if record.len() != columns.len() {
        let mut text = format!("{} cells, but the header has {} columns", record.len(), columns.len());
        if separator == b';' && columns.contains(&"scopes") {
            text += ": in a file with semicolons, separate scopes by spaces or put them in quotes";
        }
        return Err(vec![Problem::for_row(line, text)]);
    }
    let mut cells = Cells::default();
    let mut problems = Vec::new();
    for (column, cell) in columns.iter().zip(record) {
        match str::from_utf8(cell) {
            // No value has one. Otherwise a quote could hide the rows after it. Checked before blanks are
            // removed.
            Ok(text) if text.contains(['\r', '\n']) => {
                problems.push(Problem::new(
                    line,
                    column,
                    "has a line break: a quote before it is not closed",
                ));
            }
            Ok(text) => {
                cells.set(column, text.trim_ascii());
            }
            Err(_) => problems.push(Problem::new(line, column, "not UTF-8: save the file as UTF-8")),
        }
    }
    if problems.is_empty() { cells.check(line, default_tenant) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn problems(file: &str) -> Vec<String> {
        let (_, problems) = parse(file.as_bytes(), "t");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn csv_line_numbers_match_the_file() {
        let file = format!("\n\nsha256, name\r\n\r\n{SHA},\"two\nlines\"\n{SHA},x,y\n\n\n{SHA},fine\nbad,\n");
        let (rows, problems) = parse(file.as_bytes(), "t");
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [10]);
        let lines: Vec<_> = problems.iter().map(Problem::line).collect();
        assert_eq!(lines, [5, 7, 11]);
    }

    #[test]
    fn invalid_header_is_reported_first() {
        assert_eq!(problems("name\nx\n"), ["1: sha256: missing from the header"]);
        assert_eq!(problems("sha256,sha256\n"), ["1: sha256: duplicate column"]);
        assert!(problems("sha256,key\n")[0].contains("never imported in plaintext"));
        assert_eq!(problems(""), ["1: empty file: a header with sha256 is required"]);
        assert_eq!(problems("sha256\n"), [""; 0]);
    }

    #[test]
    fn rows_of_wrong_length_are_rejected() {
        assert_eq!(problems(&format!("sha256,name\n{SHA}\n")), ["2: 1 cells, but the header has 2 columns"]);
    }

    #[test]
    fn separator_is_that_of_the_header() {
        for separator in [",", ";", "\t"] {
            let file = format!(
                "\n\"SHA256\"{separator} Name {separator}Scopes\r\n\r\n{SHA}{separator}\"a,b;c\"{separator}x y\n"
            );
            let (rows, problems) = parse(file.as_bytes(), "t");
            assert_eq!(problems, [], "{separator:?}");
            assert_eq!((&*rows[0].key.name, rows[0].key.scopes.len()), ("a,b;c", 2));
        }
        let (rows, _) = parse(format!("sha256\n{SHA}\n").as_bytes(), "t");
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn header_with_several_separators_is_rejected() {
        let expected = "2: the header has commas and semicolons: use one separator in the whole file";
        assert_eq!(problems("\nsha256,name;scopes\n"), [expected]);
        assert_eq!(problems("sha256,\"name;scopes\"\n").len(), 1, "one separator, and an unknown column");
        assert_eq!(problems("sha256,,name\n"), ["1: column 2 has no name: remove it"]);
    }

    #[test]
    fn lines_without_values_are_skipped() {
        let (rows, problems) = parse(format!("sha256;name\n;\n{SHA};n\n ; \n;;\n").as_bytes(), "t");
        assert_eq!(problems, []);
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn unclosed_quote_hides_no_row() {
        for start in ["a", ""] {
            let file = format!("sha256,scopes\n{SHA},\"{start}\n{SHA}\n");
            let expected = ["2: scopes: has a line break: a quote before it is not closed"];
            assert_eq!(problems(&file), expected);
        }
    }

    #[test]
    fn semicolons_of_scopes_need_quotes_in_a_file_with_semicolons() {
        let found = problems(&format!("sha256;scopes\n{SHA};a;b\n"));
        assert!(found[0].ends_with("separate scopes by spaces or put them in quotes"), "{found:?}");
        assert_eq!(problems(&format!("sha256;scopes\n{SHA};\"a;b\"\n")), [""; 0]);
    }

    #[test]
    fn non_utf8_cells_are_rejected() {
        let (_, problems) = parse(b"sha256,name\n00,\xff\n", "t");
        assert_eq!(problems[0].to_string(), "2: name: not UTF-8: save the file as UTF-8");
    }
}
