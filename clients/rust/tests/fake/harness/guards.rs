//! What tests of guards need.

use std::time::Duration;

use tenant_auth_client::{Client, Ended, PresentedKey, Principal, proto as v1};
use tokio::time::timeout;

use super::{SECOND, server::provenance};

/// Returns the answer for a key as of a revision.
pub(crate) fn at(revision: i64, answer: v1::ValidateKeyResponse) -> v1::ValidateKeyResponse {
    v1::ValidateKeyResponse { provenance: Some(provenance(revision)), ..answer }
}

pub(crate) fn denied(verdict: v1::Verdict, answer: v1::ValidateKeyResponse) -> v1::ValidateKeyResponse {
    v1::ValidateKeyResponse { verdict: verdict.into(), ..answer }
}

/// Returns the principal of a key that holds `orders:read`.
pub(crate) async fn principal(client: &Client, key: &str) -> Principal {
    client.require_guardable(PresentedKey::new(key), &["orders:read"]).await.unwrap()
}

/// Waits for the end of a guard, with a timeout for a busy machine.
pub(crate) async fn ended(guard: impl Future<Output = Ended>) -> Ended {
    timeout(SECOND * 60, guard).await.unwrap()
}

/// Returns whether a guard is still not resolved after the other tasks of this thread have run.
pub(crate) async fn continues(guard: &mut (impl Future<Output = Ended> + Unpin)) -> bool {
    let still = timeout(Duration::from_millis(50), guard).await;
    still.is_err()
}
