//! Reads a policy from JSON, strictly.

use serde_json::value::RawValue;

use super::{McpPolicy, McpRule, Rules, Usage};
use crate::{Error, mcp::members::Members, options::setup_error};

pub(super) fn read(json: &str) -> Result<McpPolicy, Error> {
    let root: &RawValue =
        serde_json::from_str(json).map_err(|error| setup_error(format!("policy: invalid JSON: {error}")))?;
    let mut policy = McpPolicy::new();
    for (section, value) in &members(root, "the policy")?.0 {
        let rules = match &**section {
            "tools" => &mut policy.tools,
            "resources" => &mut policy.resources,
            "prompts" => &mut policy.prompts,
            "methods" => &mut policy.methods,
            _ => return Err(unknown(section, "tools, resources, prompts and methods")),
        };
        *rules = Some(read_rules(value, section)?);
    }
    policy.check()?;
    Ok(policy)
}

fn read_rules(value: &RawValue, section: &str) -> Result<Rules, Error> {
    let mut rules = Rules::default();
    for (name, value) in &members(value, section)?.0 {
        rules.insert(name.to_string(), read_rule(value, &format!("{section}[{name:?}]"))?);
    }
    Ok(rules)
}

fn read_rule(value: &RawValue, path: &str) -> Result<McpRule, Error> {
    let mut rule = McpRule::new();
    for (name, value) in &members(value, path)?.0 {
        let path = format!("{path}.{name}");
        match &**name {
            "scopes" => rule.scopes = parse(value, &path, "an array of strings")?,
            "usage" => rule.usage = Some(read_usage(value, &path)?),
            _ => return Err(unknown(&path, "scopes and usage")),
        }
    }
    Ok(rule)
}

fn read_usage(value: &RawValue, path: &str) -> Result<Usage, Error> {
    let (mut metric, mut quantity) = (None, 1);
    for (name, value) in &members(value, path)?.0 {
        let path = format!("{path}.{name}");
        match &**name {
            "metric" => metric = Some(parse(value, &path, "a string")?),
            "quantity" => quantity = parse(value, &path, "a whole number")?,
            _ => return Err(unknown(&path, "metric and quantity")),
        }
    }
    let metric =
        metric.ok_or_else(|| setup_error(format!("policy: {path}.metric is missing: name a metric")))?;
    Ok(Usage { metric, quantity })
}

/// Returns the members of an object, none of which may be repeated.
fn members<'a>(value: &'a RawValue, path: &str) -> Result<Members<'a>, Error> {
    let members =
        Members::of(value).ok_or_else(|| setup_error(format!("policy: {path}: must be an object")))?;
    for (index, (name, _)) in members.0.iter().enumerate() {
        if members.0[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(setup_error(format!("policy: {path}: {name:?} is repeated: keep one of them")));
        }
    }
    Ok(members)
}

fn parse<T: serde::de::DeserializeOwned>(value: &RawValue, path: &str, expected: &str) -> Result<T, Error> {
    serde_json::from_str(value.get())
        .map_err(|_| setup_error(format!("policy: {path}: must be {expected}, not {}", value.get())))
}

fn unknown(path: &str, known: &str) -> Error {
    setup_error(format!("policy: {path}: unknown field: the fields are {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_and_code_are_the_same_policy() {
        let json = r#"{
            "tools": {"read": {"scopes": ["orders:read"]}, "re*": {"usage": {"metric": "m"}}},
            "resources": {"orders://*": {"scopes": ["a", "b"]}},
            "prompts": {"summary": {}},
            "methods": {"logging/setLevel": {"usage": {"metric": "m", "quantity": 5}}}
        }"#;
        let policy = McpPolicy::new()
            .tool("read", McpRule::new().scope("orders:read"))
            .tool("re*", McpRule::new().usage("m", 1))
            .resource("orders://*", McpRule::new().scope("a").scope("b"))
            .prompt("summary", McpRule::new())
            .method("logging/setLevel", McpRule::new().usage("m", 5));
        assert_eq!(McpPolicy::from_json(json).unwrap(), policy);
    }

    #[test]
    fn invalid_file_names_the_path_and_the_fix() {
        for (json, path, fix) in [
            ("{", "invalid JSON", "EOF"),
            ("[]", "the policy", "must be an object"),
            (r#"{"tool": {}}"#, "tool:", "the fields are tools"),
            (r#"{"tools": {}, "tools": {}}"#, "tools", "keep one"),
            (r#"{"tools": []}"#, "tools:", "must be an object"),
            (r#"{"tools": {"a": 1}}"#, r#"tools["a"]"#, "must be an object"),
            (r#"{"tools": {"a": {}, "a": {}}}"#, r#"tools: "a""#, "keep one"),
            (r#"{"tools": {"a": {"scope": []}}}"#, r#"tools["a"].scope:"#, "the fields are scopes and usage"),
            (r#"{"tools": {"a": {"scopes": "b"}}}"#, r#"tools["a"].scopes"#, "an array of strings"),
            (r#"{"tools": {"a": {"scopes": ["A B"]}}}"#, r#"tools["a"].scopes[0]"#, "a-z"),
            (r#"{"prompts": {"a*": {"usage": {}}}}"#, r#"prompts["a*"].usage.metric"#, "name a metric"),
            (r#"{"prompts": {"a": {"usage": {"metric": "M"}}}}"#, r#"prompts["a"].usage.metric"#, "a-z"),
            (
                r#"{"prompts": {"a": {"usage": {"metric": "m", "quantity": 1.5}}}}"#,
                r#"prompts["a"].usage.quantity"#,
                "a whole number",
            ),
            (
                r#"{"prompts": {"a": {"usage": {"metric": "m", "quantity": -1}}}}"#,
                r#"prompts["a"].usage.quantity"#,
                "must be 0",
            ),
        ] {
            let Err(Error::Setup { message }) = McpPolicy::from_json(json) else {
                unreachable!("{json} was accepted")
            };
            assert!(message.contains(path) && message.contains(fix), "{json}: {message}");
        }
    }
}
