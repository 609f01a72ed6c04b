//! The operations that a message asks for.

use super::message::{BodyError, Member, Message};

/// What an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tool,
    Resource,
    Prompt,
}

/// The use of a tool, a resource or a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// `None` if the message has no name for it.
    pub(super) name: Option<String>,
}

impl Operation {
    pub(super) fn new(kind: Kind, name: Member) -> Self {
        let name = match name {
            Member::Text(name) => Some(name),
            Member::Missing | Member::Other => None,
        };
        Self { kind, name }
    }
}

/// Returns what the name in the headers of a method names; `None` if the method has none.
pub(super) fn kind_in_headers(method: &str) -> Option<Kind> {
    match method {
        "tools/call" => Some(Kind::Tool),
        "prompts/get" => Some(Kind::Prompt),
        "resources/read" => Some(Kind::Resource),
        _ => None,
    }
}

/// Returns the operations of a message besides its method. Stateless revisions have no `resources/subscribe`: without a URI, the
/// server answers that it does not know the method.
///
/// # Errors
/// If a member that decides is repeated.
pub(super) fn operations(message: &Message<'_>, is_stateless: bool) -> Result<Vec<Operation>, BodyError> {
    let params = &message.params;
    Ok(match message.method.as_deref() {
        Some("tools/call") => vec![Operation::new(Kind::Tool, params.name())],
        Some("prompts/get") => vec![Operation::new(Kind::Prompt, params.name())],
        Some("resources/subscribe" | "resources/unsubscribe")
            if is_stateless && params.uri() == Member::Missing =>
        {
            Vec::new()
        }
        Some("resources/read" | "resources/subscribe" | "resources/unsubscribe") => {
            vec![Operation::new(Kind::Resource, params.uri())]
        }
        Some("completion/complete") => {
            let reference = params.reference()?;
            match reference.kind() {
                Member::Text(kind) if kind == "ref/prompt" => {
                    vec![Operation::new(Kind::Prompt, reference.name())]
                }
                Member::Text(kind) if kind == "ref/resource" => {
                    vec![Operation::new(Kind::Resource, reference.uri())]
                }
                // It is for either of them.
                _ => [Kind::Prompt, Kind::Resource].map(|kind| Operation { kind, name: None }).into(),
            }
        }
        Some("subscriptions/listen") => {
            let resource = |uri| Operation::new(Kind::Resource, uri);
            params.subscriptions()?.into_iter().map(resource).collect()
        }
        _ => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::message::Body;

    #[test]
    fn each_method_has_its_operations() {
        let of = |method: &str, params: &str| {
            let body = format!(r#"{{"id":1,"method":"{method}","params":{params}}}"#);
            let Ok(Body::One(message)) = Body::parse(body.as_bytes()) else { unreachable!() };
            let describe = |operation: Operation| {
                format!("{:?} {}", operation.kind, operation.name.as_deref().unwrap_or("-"))
            };
            operations(&message, false)
                .map(|all| all.into_iter().map(describe).collect::<Vec<_>>().join(", "))
        };
        for (method, params, expected) in [
            ("tools/call", r#"{"name":"a"}"#, "Tool a"),
            ("tools/call", r#"{"name":1}"#, "Tool -"),
            ("tools/call", "[]", "Tool -"),
            ("prompts/get", r#"{"name":"\u0061"}"#, "Prompt a"),
            ("resources/read", r#"{"uri":"a:b"}"#, "Resource a:b"),
            ("resources/unsubscribe", r#"{"uri":"a:b"}"#, "Resource a:b"),
            ("completion/complete", r#"{"ref":{"type":"ref/prompt","name":"a"}}"#, "Prompt a"),
            ("completion/complete", r#"{"ref":{"type":"ref/resource","uri":"a:b"}}"#, "Resource a:b"),
            ("completion/complete", r#"{"ref":{"type":"ref/tool","name":"a"}}"#, "Prompt -, Resource -"),
            ("completion/complete", "{}", "Prompt -, Resource -"),
            (
                "subscriptions/listen",
                r#"{"notifications":{"resourceSubscriptions":["a:b",1]}}"#,
                "Resource a:b, Resource -",
            ),
            ("subscriptions/listen", r#"{"notifications":{"toolsListChanged":true}}"#, ""),
            ("subscriptions/listen", r#"{"notifications":[]}"#, "Resource -"),
            ("tools/list", "{}", ""),
        ] {
            assert_eq!(of(method, params).as_deref(), Ok(expected), "{method} {params}");
        }
        let body = r#"{"id":1,"method":"resources/subscribe"}"#;
        let Ok(Body::One(unnamed)) = Body::parse(body.as_bytes()) else { unreachable!() };
        assert_eq!(operations(&unnamed, true), Ok(Vec::new()));
        assert_eq!(operations(&unnamed, false), Ok(vec![Operation { kind: Kind::Resource, name: None }]));
        let repeated = r#"{"ref":{"type":"ref/prompt","name":"a","name":"b"}}"#;
        assert_eq!(of("completion/complete", repeated), Err(BodyError::Invalid));
    }
}
