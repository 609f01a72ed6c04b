//! The cost of a cache hit.

use std::future::Future as _;

use futures::task::noop_waker_ref;
use tenant_auth_client::PresentedKey;

use crate::harness::{Pair, server::valid};

#[tokio::test]
async fn cache_hit_allocates_nothing_and_does_not_block() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let key = PresentedKey::new("k");
    let _ = pair.client.validate(&key, &[]).await.unwrap();
    let mut context = std::task::Context::from_waker(noop_waker_ref());
    let allocations = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            let hit = std::pin::pin!(pair.client.validate(&key, &["orders:read"]));
            let std::task::Poll::Ready(Ok(validation)) = hit.poll(&mut context) else {
                unreachable!("a cache hit is ready at once");
            };
            assert!(validation.is_valid());
        }
    });
    assert_eq!((allocations.count_total, allocations.bytes_total), (0, 0));
    assert_eq!(pair.fake.asked(), 1);
}
