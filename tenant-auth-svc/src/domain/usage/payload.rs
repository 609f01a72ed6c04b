//! The hash of a request's events: two requests with the same id must have the same events.

use sha2::{Digest as _, Sha256};

/// SHA-256 of a request's events in a canonical form, as sent, including rejected events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadHash([u8; 32]);

impl PayloadHash {
    /// Creates a hash from existing bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Hashes events one after another. The order matters, because the response refers to events by index.
#[derive(Debug, Default)]
pub struct PayloadHasher(Sha256);

impl PayloadHasher {
    /// Adds an event. `occurred_at` is in seconds and nanoseconds; `None` differs from every time.
    pub fn add_event(
        &mut self,
        tenant_id: &str,
        metric: &str,
        quantity: i64,
        occurred_at: Option<(i64, i32)>,
    ) {
        for text in [tenant_id, metric] {
            // The length is included so that no two pairs of texts give the same bytes.
            self.0.update((text.len() as u64).to_be_bytes());
            self.0.update(text.as_bytes());
        }
        self.0.update(quantity.to_be_bytes());
        match occurred_at {
            None => self.0.update([0]),
            Some((seconds, nanos)) => {
                self.0.update([1]);
                self.0.update(seconds.to_be_bytes());
                self.0.update(nanos.to_be_bytes());
            }
        }
    }

    /// Returns the hash of all added events.
    #[must_use]
    pub fn finish(self) -> PayloadHash {
        PayloadHash(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Event<'a> = (&'a str, &'a str, i64, Option<(i64, i32)>);

    fn payload(events: &[Event<'_>]) -> PayloadHash {
        let mut hasher = PayloadHasher::default();
        for (tenant, metric, quantity, at) in events {
            hasher.add_event(tenant, metric, *quantity, *at);
        }
        hasher.finish()
    }

    #[test]
    fn different_payloads_have_different_hashes() {
        let a: Event<'_> = ("ten", "calls", 1, None);
        let b: Event<'_> = ("ten", "calls", 2, None);
        let all = [
            payload(&[]),
            payload(&[a]),
            payload(&[b]),
            payload(&[a, b]),
            payload(&[b, a]),
            payload(&[a, a]),
            payload(&[("tenc", "alls", 1, None)]),
            payload(&[("ten", "calls", 1, Some((0, 0)))]),
            payload(&[("ten", "calls", 1, Some((0, 1)))]),
            payload(&[("ten", "calls", 1, Some((1, 0)))]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        assert_eq!(payload(&[a, b]), payload(&[a, b]));
    }
}
