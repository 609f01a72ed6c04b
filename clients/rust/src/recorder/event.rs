//! Checks usage events when they are recorded, rather than when they are sent in a batch.

use std::time::{Duration, SystemTime};

use tenant_auth_proto::v1::UsageEvent;

use crate::Violation;

const MAX_NAME_LEN: usize = 64;
const MAX_QUANTITY: i64 = 1_000_000_000_000;
/// 9999-12-31T23:59:59Z.
const MAX_UNIX_SECONDS: u64 = 253_402_300_799;

/// # Errors
/// The violation: the field that breaks the contract.
pub(super) fn checked_event(
    tenant_id: &str,
    metric: &str,
    quantity: i64,
    at: SystemTime,
) -> Result<UsageEvent, Violation> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !has_length(tenant_id) || !tenant_id.bytes().all(is_id) {
        return violation("tenant_id", "must be 1 to 64 characters of A-Z a-z 0-9 _ -");
    }
    check_metric(metric, quantity)?;
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    if since.is_err() || since.is_ok_and(|since| since >= Duration::from_secs(MAX_UNIX_SECONDS + 1)) {
        return violation("occurred_at", "must be in the years 1970 to 9999");
    }
    Ok(UsageEvent {
        tenant_id: tenant_id.to_owned(),
        metric: metric.to_owned(),
        quantity,
        occurred_at: Some(at.into()),
    })
}

/// # Errors
/// The violation: `metric` or `quantity`.
pub(crate) fn check_metric(metric: &str, quantity: i64) -> Result<(), Violation> {
    let is_metric =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
    if !has_length(metric)
        || !metric.bytes().all(is_metric)
        || !metric.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return violation("metric", "must be 1 to 64 characters of a-z 0-9 _ . and start with a letter");
    }
    if !(0..=MAX_QUANTITY).contains(&quantity) {
        return violation("quantity", "must be 0 to 1,000,000,000,000");
    }
    Ok(())
}

fn has_length(text: &str) -> bool {
    (1..=MAX_NAME_LEN).contains(&text.len())
}

fn violation<T>(field: &str, description: &str) -> Result<T, Violation> {
    Err(Violation { field: field.to_owned(), description: description.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_event_is_rejected_by_field() {
        let (epoch, long) = (SystemTime::UNIX_EPOCH, "x".repeat(65));
        let last = epoch + Duration::from_secs(MAX_UNIX_SECONDS) + Duration::from_millis(999);
        for (tenant_id, metric, quantity, at) in [
            ("acme", "calls", 0, epoch),
            (&long[1..], &long[1..], MAX_QUANTITY, last),
            ("A-z_9", "a.b_9", 1, last),
        ] {
            checked_event(tenant_id, metric, quantity, at).unwrap();
        }
        for (tenant_id, metric, quantity, at, field) in [
            ("", "calls", 1, epoch, "tenant_id"),
            (&long, "calls", 1, epoch, "tenant_id"),
            ("a b", "calls", 1, epoch, "tenant_id"),
            ("ä", "calls", 1, epoch, "tenant_id"),
            ("acme", "", 1, epoch, "metric"),
            ("acme", "9a", 1, epoch, "metric"),
            ("acme", "Calls", 1, epoch, "metric"),
            ("acme", &long, 1, epoch, "metric"),
            ("acme", "calls", -1, epoch, "quantity"),
            ("acme", "calls", MAX_QUANTITY + 1, epoch, "quantity"),
            ("acme", "calls", 1, epoch - Duration::from_nanos(1), "occurred_at"),
            ("acme", "calls", 1, last + Duration::from_millis(1), "occurred_at"),
        ] {
            assert_eq!(checked_event(tenant_id, metric, quantity, at).unwrap_err().field, field);
        }
    }
}
