//! Filters lists: their results contain only what the key may use.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{McpPolicy, members::Members, operation::Kind};
use crate::Principal;

/// The lists that a request asks for, and for whom they are filtered.
#[derive(Clone, Debug)]
pub(super) struct ListFilter {
    policy: McpPolicy,
    principal: Principal,
    scope: Scope,
}

#[derive(Clone, Debug)]
enum Scope {
    /// The responses to these ids, as they were written in the request.
    Responses(Vec<Box<RawValue>>),
    /// All responses: a resumed stream repeats those to earlier requests.
    All,
}

/// A list in a result: its member, its kind, and the member that names an item.
const LISTS: [(&str, Kind, &str); 4] = [
    ("tools", Kind::Tool, "name"),
    ("prompts", Kind::Prompt, "name"),
    ("resources", Kind::Resource, "uri"),
    ("resourceTemplates", Kind::Resource, "uriTemplate"),
];

/// Returns whether the result of a method is a list of what the policy governs.
pub(super) fn is_list(method: &str) -> bool {
    matches!(method, "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list")
}

impl ListFilter {
    /// Filters the responses to these ids.
    pub(super) fn of_responses(policy: &McpPolicy, principal: &Principal, ids: Vec<Box<RawValue>>) -> Self {
        Self { policy: policy.clone(), principal: principal.clone(), scope: Scope::Responses(ids) }
    }

    /// Filters all responses of a stream.
    pub(super) fn of_stream(policy: &McpPolicy, principal: &Principal) -> Self {
        Self { policy: policy.clone(), principal: principal.clone(), scope: Scope::All }
    }

    /// Returns the filtered body, a message or a batch; `None` if there is nothing to change.
    pub(super) fn filter(&self, json: &str) -> Option<String> {
        let value: &RawValue = serde_json::from_str(json).ok()?;
        if !value.get().starts_with('[') {
            return self.filter_message(value).map(|message| message.get().to_owned());
        }
        let mut messages: Vec<Cow<'_, RawValue>> = serde_json::from_str::<Vec<&RawValue>>(value.get())
            .ok()?
            .into_iter()
            .map(Cow::Borrowed)
            .collect();
        let mut is_changed = false;
        for message in &mut messages {
            if let Some(filtered) = self.filter_message(message) {
                *message = Cow::Owned(filtered);
                is_changed = true;
            }
        }
        is_changed.then(|| serde_json::to_string(&messages).ok()).flatten()
    }

    fn filter_message(&self, message: &RawValue) -> Option<Box<RawValue>> {
        let mut message = Members::of(message)?;
        if let Scope::Responses(ids) = &self.scope {
            let id = message.get("id")?;
            ids.iter().find(|asked| is_same_id(asked, id))?;
        }
        let mut is_changed = false;
        for (name, value) in &mut message.0 {
            if name == "result"
                && let Some(filtered) = self.filter_result(value)
            {
                *value = Cow::Owned(filtered);
                is_changed = true;
            }
        }
        if is_changed { raw(&message) } else { None }
    }

    fn filter_result(&self, result: &RawValue) -> Option<Box<RawValue>> {
        let mut result = Members::of(result)?;
        let mut is_list = false;
        for (name, value) in &mut result.0 {
            let Some((_, kind, key)) = LISTS.iter().find(|(list, ..)| name == list) else { continue };
            let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else { continue };
            let kept: Vec<_> = items.into_iter().filter(|item| self.may_use(*kind, key, item)).collect();
            *value = Cow::Owned(raw(&kept)?);
            is_list = true;
        }
        if !is_list {
            return None;
        }
        for (name, value) in &mut result.0 {
            if name == "cacheScope" {
                // It depends on the key now.
                *value = Cow::Owned(raw("private")?);
            }
        }
        raw(&result)
    }

    /// An item without a readable name is left out.
    fn may_use(&self, kind: Kind, key: &str, item: &RawValue) -> bool {
        let name =
            Members::of(item).and_then(|item| serde_json::from_str::<String>(item.get(key)?.get()).ok());
        name.is_some_and(|name| self.policy.permits(kind, &name, |scope| self.principal.holds(scope)))
    }
}

/// Compares ids by value: a server may write them otherwise.
fn is_same_id(asked: &RawValue, answered: &RawValue) -> bool {
    let value = |id: &RawValue| serde_json::Value::deserialize(id).ok();
    asked.get() == answered.get() || value(asked).is_some_and(|asked| Some(asked) == value(answered))
}

fn raw<T: Serialize + ?Sized>(value: &T) -> Option<Box<RawValue>> {
    to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{McpRule, Subject, principal::SubjectFields};

    fn filter(ids: Option<&[&str]>) -> ListFilter {
        let policy = McpPolicy::new()
            .tool("read", McpRule::new().scope("orders:read"))
            .tool("write", McpRule::new().scope("orders:write"))
            .resource("orders://*", McpRule::new());
        let scopes = vec!["orders:read".to_owned()];
        let principal =
            Principal::admitted(Subject::new(SubjectFields { scopes, ..SubjectFields::default() }));
        match ids {
            Some(ids) => {
                let raw = |id: &&str| RawValue::from_string((*id).to_owned()).unwrap();
                ListFilter::of_responses(&policy, &principal, ids.iter().map(raw).collect())
            }
            None => ListFilter::of_stream(&policy, &principal),
        }
    }

    #[test]
    fn result_keeps_everything_else_in_order() {
        let json = r#"{"jsonrpc":"2.0","id":1,"result":{"z":1.0,"tools":[{"name":"write"},{"x":12345678901234567890123,"name":"read"},{"title":"no name"},{"name":"other"}],"cacheScope":"public","ttlMs":1,"a":null}}"#;
        let expected = r#"{"jsonrpc":"2.0","id":1,"result":{"z":1.0,"tools":[{"x":12345678901234567890123,"name":"read"}],"cacheScope":"private","ttlMs":1,"a":null}}"#;
        assert_eq!(filter(Some(&["1"])).filter(json).as_deref(), Some(expected));
        assert_eq!(filter(None).filter(json).as_deref(), Some(expected));
        assert_eq!(filter(Some(&["2", "\"1\""])).filter(json), None);
    }

    #[test]
    fn resources_and_templates_are_filtered_and_ungoverned_kinds_are_kept() {
        let filter = filter(Some(&["\"a\"", "2"]));
        let json = r#"[{"id":"\u0061","result":{"resources":[{"uri":"file:///x"},{"uri":"orders://1"}]}},{"id":2,"result":{"resourceTemplates":[{"uriTemplate":"orders://{id}"},{"uriTemplate":"file://{x}"}],"prompts":[{"name":"any"}]}},{"id":3,"result":{"tools":[]}}]"#;
        let expected = r#"[{"id":"\u0061","result":{"resources":[{"uri":"orders://1"}]}},{"id":2,"result":{"resourceTemplates":[{"uriTemplate":"orders://{id}"}],"prompts":[{"name":"any"}]}},{"id":3,"result":{"tools":[]}}]"#;
        assert_eq!(filter.filter(json).as_deref(), Some(expected));
    }

    #[test]
    fn errors_and_other_messages_are_untouched() {
        for json in [
            r#"{"id":1,"error":{"code":1,"message":"tools"}}"#,
            r#"{"id":1,"result":{"content":[{"name":"write"}]}}"#,
            r#"{"method":"x","params":{"tools":[{"name":"write"}]}}"#,
            "not JSON",
            "[]",
        ] {
            assert_eq!(filter(None).filter(json), None, "{json}");
        }
    }
}
