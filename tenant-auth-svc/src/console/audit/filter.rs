//! Which entries a person asks for.

use http::StatusCode;
use jiff::{civil::DateTime, tz::TimeZone};
use prost_types::Timestamp;
use serde::Deserialize;
use tenant_auth_proto::v1;
use url::form_urlencoded;

use crate::console::failure::Failure;

/// The filters of the form, as they were entered. Empty ones have no effect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    pub(super) caller: String,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) tenant: String,
    pub(super) since: String,
    pub(super) until: String,
    /// The token of the page.
    pub(super) after: String,
}

impl Filter {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Failure> {
        let filter: Self = serde_html_form::from_str(query.unwrap_or_default()).map_err(|error| {
            Failure::new(StatusCode::BAD_REQUEST, &format!("The filters cannot be read: {error}."))
        })?;
        let trimmed = |text: String| text.trim().to_owned();
        Ok(Self {
            caller: trimmed(filter.caller),
            action: trimmed(filter.action),
            target: trimmed(filter.target),
            tenant: trimmed(filter.tenant),
            since: trimmed(filter.since),
            until: trimmed(filter.until),
            after: filter.after,
        })
    }

    /// Whether every entry matches.
    pub(super) fn is_empty(&self) -> bool {
        self.fields().all(|(_, value)| value.is_empty())
    }

    /// The request for a page of the matching entries.
    pub(super) fn request(
        &self,
        page_size: i32,
        page_token: String,
    ) -> Result<v1::ListAuditEventsRequest, Failure> {
        Ok(v1::ListAuditEventsRequest {
            tenant_id: self.tenant.clone(),
            page_size,
            page_token,
            target: self.target.clone(),
            caller: self.caller.clone(),
            since: parse_time("since", &self.since)?,
            until: parse_time("until", &self.until)?,
            action: self.action.clone(),
        })
    }

    /// The path of a list with these filters, from the page with a token.
    pub(super) fn path(&self, list: &str, after: &str) -> String {
        let fields = self.fields().chain([("after", after)]).filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        if query.is_empty() { list.to_owned() } else { format!("{list}?{query}") }
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("caller", &*self.caller),
            ("action", &self.action),
            ("target", &self.target),
            ("tenant", &self.tenant),
            ("since", &self.since),
            ("until", &self.until),
        ]
        .into_iter()
    }
}

/// Reads a date and a time of day in UTC, as browsers send them.
fn parse_time(field: &str, text: &str) -> Result<Option<Timestamp>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    // The parser accepts an offset, and ignores it.
    let has_offset = text.split_once(['T', 't', ' ']).is_some_and(|(_, time)| {
        time.bytes().any(|byte| !byte.is_ascii_digit() && !matches!(byte, b':' | b'.'))
    });
    let parsed = text.parse::<DateTime>().ok().filter(|_| !has_offset);
    let timestamp = parsed.and_then(|time| TimeZone::UTC.to_timestamp(time).ok()).ok_or_else(|| {
        let message = format!("{field}: must be a date and a time in UTC, such as 2030-01-31T12:00");
        Failure::new(StatusCode::BAD_REQUEST, &message)
    })?;
    Ok(Some(Timestamp { seconds: timestamp.as_second(), nanos: timestamp.subsec_nanosecond() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        let parse = |text: &str| parse_time("since", text).map(|time| time.map(|time| time.to_string()));
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("2030-01-31T12:00").unwrap().unwrap(), "2030-01-31T12:00:00Z");
        assert_eq!(parse("2030-01-31T12:00:01.5").unwrap().unwrap(), "2030-01-31T12:00:01.500Z");
        for invalid in [
            "yesterday",
            "2030-02-31T12:00",
            "2030-01-31T12:00+01:00",
            "2030-01-31T12:00-01",
            "2030-01-31T12:00Z",
        ] {
            assert!(parse(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn links_keep_the_filters() {
        let filter = Filter::parse(Some("caller=a%26b&action=&since=2030-01-31T12%3A00&after=old")).unwrap();
        assert_eq!(filter.path("/audit", "next"), "/audit?caller=a%26b&since=2030-01-31T12%3A00&after=next");
        assert!(!filter.is_empty() && Filter::parse(Some("after=x&caller=+")).unwrap().is_empty());
        assert_eq!(Filter::default().path("/audit", ""), "/audit");
    }
}
