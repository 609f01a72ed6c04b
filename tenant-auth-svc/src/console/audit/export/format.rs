//! CSV and JSON.

use std::io;

use csv::{QuoteStyle, WriterBuilder};
use serde::Serialize;
use tenant_auth_proto::v1;

use super::MAX_ENTRIES;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// With a header. Texts are inert in spreadsheets.
    Csv,
    /// An array of objects, with the texts as stored.
    Json,
}

/// An entry, in the order of the columns.
#[derive(Serialize)]
struct Entry<'a> {
    seq: i64,
    at: String,
    caller: &'a str,
    action: &'a str,
    target: &'a str,
    tenant_id: &'a str,
    request_id: &'a str,
    detail: &'a str,
}

const COLUMNS: [&str; 8] = ["seq", "at", "caller", "action", "target", "tenant_id", "request_id", "detail"];

impl Format {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// Begins the file.
    pub(super) fn begin(self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        match self {
            Self::Csv => write_record(&mut text, COLUMNS)?,
            Self::Json => text.push(b'['),
        }
        Ok(text)
    }

    pub(super) fn write_entry(
        self,
        text: &mut Vec<u8>,
        event: &v1::AuditEvent,
        is_first: bool,
    ) -> io::Result<()> {
        let entry = Entry {
            seq: event.seq,
            at: event.at.map(|at| at.to_string()).unwrap_or_default(),
            caller: &event.caller,
            action: &event.action,
            target: &event.target,
            tenant_id: &event.tenant_id,
            request_id: &event.request_id,
            detail: &event.detail,
        };
        match self {
            Self::Csv => {
                let seq = entry.seq.to_string();
                let texts = [
                    entry.caller,
                    entry.action,
                    entry.target,
                    entry.tenant_id,
                    entry.request_id,
                    entry.detail,
                ];
                let texts = texts.map(inert);
                write_record(text, [&seq, &entry.at].into_iter().chain(&texts))
            }
            Self::Json => write_object(text, &entry, is_first),
        }
    }

    /// Says that more entries match.
    pub(super) fn write_cut(self, text: &mut Vec<u8>) -> io::Result<()> {
        let message = format!("cut after {MAX_ENTRIES} entries, and more match: narrow the filters");
        match self {
            Self::Csv => {
                let mut cells = [""; COLUMNS.len()];
                cells[COLUMNS.len() - 1] = &message;
                write_record(text, cells)
            }
            Self::Json => write_object(text, &serde_json::json!({ "cut": message }), false),
        }
    }

    /// Ends the file.
    pub(super) fn end(self, text: &mut Vec<u8>) {
        if self == Self::Json {
            text.extend_from_slice(b"\n]\n");
        }
    }
}

/// A cell that no spreadsheet takes for a formula: an apostrophe before the text, which spreadsheets do not show.
fn inert(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if is_formula { format!("'{cell}") } else { cell.to_owned() }
}

fn write_record<T: AsRef<[u8]>>(text: &mut Vec<u8>, cells: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut writer = WriterBuilder::new().quote_style(QuoteStyle::Always).from_writer(text);
    writer.write_record(cells).map_err(io::Error::other)?;
    writer.flush()
}

fn write_object(text: &mut Vec<u8>, object: &impl Serialize, is_first: bool) -> io::Result<()> {
    text.extend_from_slice(if is_first { b"\n" } else { b",\n" });
    serde_json::to_writer(text, object).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, written) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("a=1", "a=1"),
            ("", ""),
        ] {
            assert_eq!(inert(cell), written);
        }
    }

    #[test]
    fn cut_file_says_so_and_stays_readable() {
        let event = v1::AuditEvent { seq: 7, detail: "a \"b\"\n".to_owned(), ..Default::default() };
        let write = |format: Format| {
            let mut text = format.begin().unwrap();
            format.write_entry(&mut text, &event, true).unwrap();
            format.write_cut(&mut text).unwrap();
            format.end(&mut text);
            text
        };
        let json: serde_json::Value = serde_json::from_slice(&write(Format::Json)).unwrap();
        assert_eq!((&json[0]["seq"], &json[0]["detail"]), (&7.into(), &"a \"b\"\n".into()));
        assert!(json[1]["cut"].as_str().unwrap().starts_with("cut after 100000 entries"));
        let csv = write(Format::Csv);
        let rows: Vec<_> = csv::Reader::from_reader(&csv[..]).records().map(Result::unwrap).collect();
        assert_eq!((&rows[0][0], &rows[0][7]), ("7", "a \"b\"\n"));
        assert!(rows[1][7].starts_with("cut after 100000 entries"));
    }
}
