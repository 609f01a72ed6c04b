//! A pair with limits, and requests about them.

use tenant_auth_client::{ConsumeRequest, PresentedKey, ReserveRequest};

use super::{Pair, server::valid};

pub(crate) fn consume(key: &str) -> ConsumeRequest {
    ConsumeRequest::new(PresentedKey::new(key)).cost("requests", 1)
}

pub(crate) fn reserve(key: &str) -> ReserveRequest {
    ReserveRequest::new(PresentedKey::new(key)).cost("requests", 4)
}

/// Returns a pair with the key `k` and ten requests.
pub(crate) async fn pair() -> Pair {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    pair.fake.limits().left.insert("requests".to_owned(), 10);
    pair
}
