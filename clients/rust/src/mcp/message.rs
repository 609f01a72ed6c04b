//! The parts of JSON-RPC messages on which a decision depends. The rest is left to the server.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A body of a request.
pub(super) enum Body<'a> {
    One(Message<'a>),
    Batch(Vec<Message<'a>>),
}

/// One message.
pub(super) struct Message<'a> {
    /// The id as written; `None` for a notification.
    pub(super) id: Option<&'a RawValue>,
    /// `None` for a response.
    pub(super) method: Option<String>,
    pub(super) params: Params<'a>,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is not JSON.
    Parse,
    /// It is not a message, or a member that decides is repeated: parsers differ in which one they take.
    Invalid,
}

/// A member that should be a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Member {
    #[default]
    Missing,
    Text(String),
    Other,
}

#[derive(Default, Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
pub(super) struct Params<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    uri: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    notifications: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present", rename = "_meta")]
    meta: Option<&'a RawValue>,
}

/// What a completion is for.
#[derive(Default, Deserialize)]
pub(super) struct Reference<'a> {
    #[serde(borrow, default, deserialize_with = "present", rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    uri: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Notifications<'a> {
    #[serde(borrow, default, deserialize_with = "present", rename = "resourceSubscriptions")]
    resources: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Meta<'a> {
    #[serde(
        borrow,
        default,
        deserialize_with = "present",
        rename = "io.modelcontextprotocol/protocolVersion"
    )]
    version: Option<&'a RawValue>,
}

impl<'a> Body<'a> {
    /// # Errors
    /// If the body is not JSON, or not one message or a batch.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, BodyError> {
        let text = str::from_utf8(bytes).map_err(|_| BodyError::Parse)?;
        let value: &RawValue = serde_json::from_str(text).map_err(|_| BodyError::Parse)?;
        if value.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| BodyError::Parse)?;
            return Ok(Self::Batch(items.into_iter().map(Message::parse).collect::<Result<_, _>>()?));
        }
        Ok(Self::One(Message::parse(value)?))
    }

    pub(super) fn messages(&self) -> &[Message<'a>] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }
}

impl<'a> Message<'a> {
    fn parse(value: &'a RawValue) -> Result<Self, BodyError> {
        let raw: RawMessage<'_> = object(Some(value))?.ok_or(BodyError::Invalid)?;
        let method = match text(raw.method) {
            Member::Missing => None,
            Member::Text(method) => Some(method),
            Member::Other => return Err(BodyError::Invalid),
        };
        let params = object(raw.params)?.unwrap_or_default();
        Ok(Self { id: raw.id, method, params })
    }
}

impl<'a> Params<'a> {
    pub(super) fn name(&self) -> Member {
        text(self.name)
    }

    pub(super) fn uri(&self) -> Member {
        text(self.uri)
    }

    /// Returns the revision that the message itself names.
    pub(super) fn version(&self) -> Result<Member, BodyError> {
        Ok(object::<Meta<'_>>(self.meta)?.map_or(Member::Missing, |meta| text(meta.version)))
    }

    pub(super) fn reference(&self) -> Result<Reference<'a>, BodyError> {
        Ok(object(self.reference)?.unwrap_or_default())
    }

    /// Returns the URIs of the resources to subscribe to.
    pub(super) fn subscriptions(&self) -> Result<Vec<Member>, BodyError> {
        let resources = match (self.notifications, object::<Notifications<'_>>(self.notifications)?) {
            (None, _) => None,
            (Some(_), None) => return Ok(vec![Member::Other]),
            (Some(_), Some(notifications)) => notifications.resources,
        };
        let Some(resources) = resources else { return Ok(Vec::new()) };
        if !resources.get().starts_with('[') {
            return Ok(vec![Member::Other]);
        }
        let items: Vec<&RawValue> = serde_json::from_str(resources.get()).map_err(|_| BodyError::Invalid)?;
        Ok(items.into_iter().map(|item| text(Some(item))).collect())
    }
}

impl Reference<'_> {
    pub(super) fn kind(&self) -> Member {
        text(self.kind)
    }

    pub(super) fn name(&self) -> Member {
        text(self.name)
    }

    pub(super) fn uri(&self) -> Member {
        text(self.uri)
    }
}

/// Keeps a member that is `null`: it is there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Returns the members of an object; `None` for another value.
///
/// # Errors
/// If a member that decides is repeated.
fn object<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Result<Option<T>, BodyError> {
    match value.map(RawValue::get) {
        Some(json) if json.starts_with('{') => {
            serde_json::from_str(json).map(Some).map_err(|_| BodyError::Invalid)
        }
        _ => Ok(None),
    }
}

fn text(value: Option<&RawValue>) -> Member {
    match value.map(|value| serde_json::from_str(value.get())) {
        None => Member::Missing,
        Some(Ok(text)) => Member::Text(text),
        Some(Err(_)) => Member::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_members_that_decide_are_refused() {
        for body in [
            r#"{"method":"a","method":"a"}"#,
            r#"{"method":"a","m\u0065thod":"b"}"#,
            r#"{"method":"a","params":{},"params":{}}"#,
            r#"{"id":1,"id":2,"method":"a"}"#,
            r#"{"method":"a","params":{"name":"b","name":"c"}}"#,
            r#"{"method":"a","params":{"uri":"b","uri":"c"}}"#,
            r#"{"method":"a","params":{"_meta":{},"_meta":{}}}"#,
            r#"[{"method":"a"},{"method":"a","method":"b"}]"#,
            r#"{"method":1}"#,
            r#"{"method":null}"#,
            "1",
            "[1]",
        ] {
            assert_eq!(Body::parse(body.as_bytes()).err(), Some(BodyError::Invalid), "{body}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_a_parse_error() {
        for body in ["", "{", "\u{feff}{}", "{} {}", "{\"a\":01}", "\"\u{1}\""] {
            assert_eq!(Body::parse(body.as_bytes()).err(), Some(BodyError::Parse), "{body:?}");
        }
        assert_eq!(Body::parse(b"{\"a\":\"\xff\"}").err(), Some(BodyError::Parse));
        let deep = "[".repeat(100_000);
        assert_eq!(Body::parse(deep.as_bytes()).err(), Some(BodyError::Parse));
    }

    #[test]
    fn other_repeated_members_are_the_servers_matter() {
        let body = r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"a","params":{"x":1,"x":2}}"#;
        assert!(Body::parse(body.as_bytes()).is_ok());
    }
}
