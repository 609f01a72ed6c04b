//! Compares answers with expected values.
//!
//! An object must have the expected fields and may have more; a list must have exactly the expected items in
//! order; other values must be equal. `{"one_of": [...]}`, `{"not": ...}`, `{"at_least": n}` and `{"at_most":
//! n}` are conditions instead; an absent field also satisfies null.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Returns whether an answer matches the expected value.
pub(crate) fn is_met(expected: &Value, came: &Value) -> bool {
    match (expected, came) {
        (Value::Object(expected), came) => match check_condition(expected, came) {
            Some(met) => met,
            None => expected.iter().all(|(name, expected)| is_met(expected, &came[name])),
        },
        (Value::Array(expected), Value::Array(came)) => {
            expected.len() == came.len()
                && expected.iter().zip(came).all(|(expected, came)| is_met(expected, came))
        }
        _ => expected == came,
    }
}

fn check_condition(expected: &Map<String, Value>, came: &Value) -> Option<bool> {
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let mut held = None;
    for (name, bound) in expected {
        let holds = match name.as_str() {
            "one_of" => {
                bound.as_array().is_some_and(|options| options.iter().any(|option| is_met(option, came)))
            }
            "not" => !is_met(bound, came),
            "at_least" => came.is_i64() && number(came) >= number(bound),
            "at_most" => came.is_i64() && number(came) <= number(bound),
            _ => return None,
        };
        held = Some(held.unwrap_or(true) && holds);
    }
    held
}

/// Compares the number of calls. If they differ, returns the expected and the actual calls as text.
pub(crate) fn check_counts(
    expected: &BTreeMap<String, Value>,
    mut came: BTreeMap<String, u64>,
) -> Result<(), String> {
    // A client makes these calls on its own: it subscribes to changes and checks health.
    for own in ["Watch", "Check"] {
        if !expected.contains_key(own) {
            came.remove(own);
        }
    }
    let unexpected = came.keys().any(|method| !expected.contains_key(method));
    let differing =
        expected.iter().any(|(method, bound)| !is_met(bound, &json!(came.get(method).copied().unwrap_or(0))));
    if unexpected || differing {
        return Err(format!("expected the calls {}, actual {}", json!(expected), json!(came)));
    }
    Ok(())
}
