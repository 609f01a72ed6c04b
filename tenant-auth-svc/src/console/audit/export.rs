//! The matching entries of the audit log as a file.
//!
//! The file is written page by page while the browser reads it, so that a long one needs no more memory than a page. Every page
//! is a call of the person. If one fails, the download fails: a file that is shorter than it should be would be worse.

mod format;

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use http::{
    HeaderValue,
    header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    request::Parts,
};
use tenant_auth_proto::v1;

use self::format::Format;
use super::filter::Filter;
use crate::{
    console::{Console, failure::Failure, person::Person, rpc::call},
    ops::format_rfc3339,
};

/// The maximum number of entries in a file.
pub(super) const MAX_ENTRIES: usize = 100_000;
/// As many as the RPC returns.
const ENTRIES_PER_CALL: i32 = 500;

pub(in crate::console) async fn csv(
    State(console): State<Arc<Console>>,
    person: Person,
    RawQuery(query): RawQuery,
    parts: Parts,
) -> Response {
    export(console, person, query.as_deref(), parts, Format::Csv).await
}

pub(in crate::console) async fn json(
    State(console): State<Arc<Console>>,
    person: Person,
    RawQuery(query): RawQuery,
    parts: Parts,
) -> Response {
    export(console, person, query.as_deref(), parts, Format::Json).await
}

async fn export(
    console: Arc<Console>,
    person: Person,
    query: Option<&str>,
    parts: Parts,
    format: Format,
) -> Response {
    // The first page before the headers of the file: what fails at once is a page that says so.
    let first = async {
        let filter = Filter::parse(query)?;
        let page = read_page(&person, &filter, String::new()).await?;
        Ok::<_, Failure>((filter, page))
    };
    let (filter, first) = match first.await {
        Ok(first) => first,
        Err(failure) => return failure.page(&person),
    };
    let date = format_rfc3339(console.parts.clock.now());
    let date = date.split('T').next().unwrap_or_default();
    let file_name = format!("attachment; filename=\"tenant-auth-audit-{date}.{}\"", format.extension());
    let disposition = HeaderValue::try_from(file_name).unwrap_or(HeaderValue::from_static("attachment"));
    let content_type = HeaderValue::from_static(format.content_type());
    let record =
        ExportRecord { person, filters: filter.path("", ""), format, entries: 0, is_complete: false };
    let export = Export { console, parts, filter, record, has_begun: false, next: Next::Page(first) };
    let body = Body::from_stream(stream::try_unfold(export, Export::write_page));
    ([(CONTENT_TYPE, content_type), (CONTENT_DISPOSITION, disposition)], body).into_response()
}

async fn read_page(
    person: &Person,
    filter: &Filter,
    token: String,
) -> Result<v1::ListAuditEventsResponse, Failure> {
    let request = filter.request(ENTRIES_PER_CALL, token)?;
    Ok(person.rpc.admin().list_audit_events(call(request)).await?.into_inner())
}

/// A file that is being written.
struct Export {
    console: Arc<Console>,
    /// Of the request: the person may log out meanwhile.
    parts: Parts,
    filter: Filter,
    record: ExportRecord,
    /// Whether the beginning of the file has been written. The first pages may be empty.
    has_begun: bool,
    next: Next,
}

/// What comes next in the file.
enum Next {
    Page(v1::ListAuditEventsResponse),
    /// The page with this token.
    Token(String),
    End,
}

impl Export {
    /// Returns the next part of the file, or `None` at its end.
    async fn write_page(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let page = match std::mem::replace(&mut self.next, Next::End) {
            Next::Page(page) => page,
            Next::Token(token) => self.read_next(token).await?,
            Next::End => return Ok(None),
        };
        let (format, written) = (self.record.format, self.record.entries);
        let (count, is_cut) = part_of_page(written, page.events.len(), !page.next_page_token.is_empty());
        let mut text = if self.has_begun { Vec::new() } else { format.begin()? };
        self.has_begun = true;
        for (index, event) in page.events.iter().take(count).enumerate() {
            format.write_entry(&mut text, event, written + index == 0)?;
        }
        self.record.entries += count;
        if is_cut {
            format.write_cut(&mut text)?;
        }
        if is_cut || page.next_page_token.is_empty() {
            format.end(&mut text);
            self.record.is_complete = !is_cut;
        } else {
            self.next = Next::Token(page.next_page_token);
        }
        Ok(Some((text.into(), self)))
    }

    async fn read_next(&self, token: String) -> io::Result<v1::ListAuditEventsResponse> {
        let person = self.console.person(&self.parts);
        let person = person.ok_or_else(|| io::Error::other("the person is no longer logged in"))?;
        tokio::select! {
            biased;
            () = self.console.end.clone() => Err(io::Error::other("the server stops")),
            page = read_page(&person, &self.filter, token) => page.map_err(|failure| io::Error::other(failure.to_string())),
        }
    }
}

/// Returns how many entries of a page are written, and whether more match than a file may have.
fn part_of_page(written: usize, entries: usize, has_more: bool) -> (usize, bool) {
    let count = entries.min(MAX_ENTRIES.saturating_sub(written));
    (count, count < entries || (written + count == MAX_ENTRIES && has_more))
}

/// Logs the export when it ends, also if the browser or the server ends it.
struct ExportRecord {
    person: Person,
    filters: String,
    format: Format,
    entries: usize,
    is_complete: bool,
}

impl Drop for ExportRecord {
    fn drop(&mut self) {
        tracing::info!(
            caller = self.person.name.as_deref(),
            format = self.format.extension(),
            filters = self.filters,
            entries = self.entries,
            complete = self.is_complete,
            "audit log exported"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_bounded() {
        assert_eq!(part_of_page(0, 500, true), (500, false));
        assert_eq!(part_of_page(500, 0, false), (0, false));
        assert_eq!(part_of_page(MAX_ENTRIES - 500, 500, false), (500, false), "exactly as many");
        assert_eq!(part_of_page(MAX_ENTRIES - 500, 500, true), (500, true));
        assert_eq!(part_of_page(MAX_ENTRIES - 300, 500, false), (300, true));
    }
}
