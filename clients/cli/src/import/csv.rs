//! Parses comma-separated values with a header.

use csv::{ByteRecord, Position, ReaderBuilder, Trim};

use super::row::{COLUMNS, Cells, Problem, Row, unknown_column};

pub(super) fn parse(bytes: &[u8], default_tenant: &str) -> (Vec<Row>, Vec<Problem>) {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        // Rows of another length get a message of this program.
        .flexible(true)
        .trim(Trim::All)
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
        match read_row(&record, columns, line, default_tenant) {
            Ok(row) => rows.push(row),
            Err(found) => problems.extend(found),
        }
    }
    if header.is_none() && problems.is_empty() {
        problems.push(Problem::for_row(1, "empty file: a header with sha256 is required"));
    }
    (rows, problems)
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
    for cell in record {
        let name = str::from_utf8(cell).unwrap_or_default();
        match COLUMNS.into_iter().find(|column| *column == name) {
            Some(column) if columns.contains(&column) => {
                problems.push(Problem::new(line, column, "duplicate column"));
            }
            Some(column) => columns.push(column),
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
    columns: &[&'static str],
    line: u64,
    default_tenant: &str,
) -> Result<Row, Vec<Problem>> {
    if record.len() != columns.len() {
        let text = format!("{} cells, but the header has {} columns", record.len(), columns.len());
        return Err(vec![Problem::for_row(line, text)]);
    }
    let mut cells = Cells::default();
    let mut problems = Vec::new();
    for (column, cell) in columns.iter().zip(record) {
        match str::from_utf8(cell) {
            Ok(text) => {
                cells.set(column, text);
            }
            Err(_) => problems.push(Problem::new(line, column, "not UTF-8")),
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
    fn non_utf8_cells_are_rejected() {
        let (_, problems) = parse(b"sha256,name\n00,\xff\n", "t");
        assert_eq!(problems[0].to_string(), "2: name: not UTF-8");
    }
}
