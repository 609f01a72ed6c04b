//! The headers of stateless revisions that repeat what the body says.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName};

use super::{
    message::{BodyError, Member, Message},
    operation::{Kind, Operation, kind_in_headers},
};

const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

/// What the headers name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedInHeaders {
    method: Option<String>,
    /// Only of methods that have one.
    name: Option<String>,
}

/// Why the headers and the body do not agree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeaderMismatch(pub(super) &'static str);

impl NamedInHeaders {
    /// # Errors
    /// If a header is repeated or cannot be decoded.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, HeaderMismatch> {
        let method = match single(headers, &METHOD_HEADER, "Mcp-Method is repeated")? {
            Some(value) => Some(plain(value).ok_or(HeaderMismatch("Mcp-Method has invalid characters"))?),
            None => None,
        };
        let name = match single(headers, &NAME_HEADER, "Mcp-Name is repeated")? {
            Some(value) if method.as_deref().is_some_and(|method| kind_in_headers(method).is_some()) => {
                Some(decoded(value).ok_or(HeaderMismatch("Mcp-Name cannot be decoded"))?)
            }
            _ => None,
        };
        Ok(Self { method, name })
    }

    pub(super) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Returns the operation that the headers name completely.
    pub(super) fn operation(&self) -> Option<Operation> {
        let kind = kind_in_headers(self.method()?)?;
        Some(Operation { kind, name: Some(self.name.clone()?) })
    }

    /// Compares the headers with the message. A notification may lack them.
    ///
    /// # Errors
    /// The outer error if a member that decides is repeated, the inner one for a mismatch.
    pub(super) fn compare(
        &self,
        message: &Message<'_>,
        version: &[u8],
    ) -> Result<Result<(), HeaderMismatch>, BodyError> {
        let is_request = message.id.is_some();
        Ok(match (&self.method, &message.method) {
            (None, _) if is_request => Err(HeaderMismatch("Mcp-Method is missing")),
            (Some(header), method) if method.as_ref() != Some(header) => {
                Err(HeaderMismatch("Mcp-Method is not the method of the body"))
            }
            (Some(header), _) => self.compare_name(header, message, is_request),
            (None, _) => Ok(()),
        }
        .and(match message.params.version()? {
            Member::Missing => Ok(()),
            Member::Text(body) if body.as_bytes() == version => Ok(()),
            _ => Err(HeaderMismatch("MCP-Protocol-Version is not the protocol version of the body")),
        }))
    }

    fn compare_name(
        &self,
        method: &str,
        message: &Message<'_>,
        is_request: bool,
    ) -> Result<(), HeaderMismatch> {
        let Some(kind) = kind_in_headers(method) else { return Ok(()) };
        let body = match kind {
            Kind::Resource => message.params.uri(),
            Kind::Tool | Kind::Prompt => message.params.name(),
        };
        match &self.name {
            Some(header) if body == Member::Text(header.clone()) => Ok(()),
            Some(_) => Err(HeaderMismatch("Mcp-Name is not the name of the body")),
            None if is_request => Err(HeaderMismatch("Mcp-Name is missing")),
            None => Ok(()),
        }
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    repeated: &'static str,
) -> Result<Option<&'a [u8]>, HeaderMismatch> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(HeaderMismatch(repeated)),
        (value, None) => Ok(value.map(|value| value.as_bytes().trim_ascii())),
    }
}

/// Returns a value of printable ASCII characters.
fn plain(value: &[u8]) -> Option<String> {
    let is_printable = value.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'));
    if is_printable { String::from_utf8(value.to_vec()).ok() } else { None }
}

/// Decodes the form for names that a header cannot hold: `=?base64?…?=`.
fn decoded(value: &[u8]) -> Option<String> {
    match value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_strictly() {
        for (value, expected) in [
            ("list", Some("list")),
            ("=?base64?cmVmdW5kX29yZGVy?=", Some("refund_order")),
            ("=?base64?Z3LDtsOfZQ==?=", Some("größe")),
            ("=?base64??=", Some("")),
            ("=?BASE64?Z3LDtsOfZQ==?=", Some("=?BASE64?Z3LDtsOfZQ==?=")),
            ("=?base64?Z3LDtsOfZQ?=", None),
            ("=?base64?Z3LDtsOfZR==?=", None),
            ("=?base64?Z3LD tsOfZQ==?=", None),
            ("=?base64?*?=", None),
            ("=?base64?/w==?=", None),
            ("größe", None),
        ] {
            assert_eq!(decoded(value.as_bytes()).as_deref(), expected, "{value}");
        }
    }
}
