//! What the endpoints' names stand for.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::Address;

/// How long names are good for: replicas come and go.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Between two lookups.
const MIN_LOOKUP_DELAY: Duration = Duration::from_secs(1);
const MAX_LOOKUP_DELAY: Duration = Duration::from_secs(5);
/// A resolver that does not answer is asked again.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a name that does not exist is looked up before the pauses grow.
const LOOKUPS_PER_DELAY_STEP: u32 = 10;

/// Finds addresses.
pub(super) type Resolver =
    Arc<dyn Fn(Address) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The machine's own resolver.
pub(super) fn system_resolver() -> Resolver {
    Arc::new(|address| {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((address.host.as_str(), address.port)).await?.collect())
        })
    })
}

/// Looks a name up for ever: every 30 s, once a replica is away, and until it exists.
pub(super) async fn watch_name(
    resolver: Resolver,
    address: Address,
    is_away: Arc<Notify>,
    found: impl Fn(io::Result<Vec<SocketAddr>>),
) {
    let mut failures = 0_u32;
    loop {
        let outcome = timeout(LOOKUP_TIMEOUT, resolver(address.clone())).await;
        let outcome = outcome
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver is silent")));
        let outcome = outcome.and_then(|addresses| match addresses[..] {
            // Some resolvers say so of a name that does not exist yet.
            [] => Err(io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"))),
            _ => Ok(addresses),
        });
        failures = if outcome.is_ok() { 0 } else { failures.saturating_add(1) };
        found(outcome);
        if failures == 0 {
            sleep(MIN_LOOKUP_DELAY).await;
            // It is over when a replica is away, or in time.
            let _ = timeout(REFRESH_INTERVAL - MIN_LOOKUP_DELAY, is_away.notified()).await;
        } else {
            sleep(lookup_delay(failures)).await;
        }
    }
}

/// About every second at first, and at most 5 s apart.
fn lookup_delay(failures: u32) -> Duration {
    (MIN_LOOKUP_DELAY * (failures / LOOKUPS_PER_DELAY_STEP + 1)).min(MAX_LOOKUP_DELAY)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn name_is_resolved_until_found_and_on_replica_loss() {
        let began = Instant::now();
        let asked: Arc<Mutex<Vec<u64>>> = Arc::default();
        let resolver: Resolver = {
            let asked = Arc::clone(&asked);
            Arc::new(move |_| {
                let second = began.elapsed().as_secs();
                asked.lock().unwrap().push(second);
                Box::pin(async move {
                    match second {
                        0..5 => Err(io::Error::other("no such name")),
                        5..10 => Ok(Vec::new()),
                        _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))]),
                    }
                })
            })
        };
        let (is_away, found) = (Arc::new(Notify::new()), Arc::new(Mutex::new(0)));
        let address = Address { host: "late".to_owned(), port: 1 };
        let counted = Arc::clone(&found);
        let following = watch_name(resolver, address, Arc::clone(&is_away), move |outcome| {
            *counted.lock().unwrap() += usize::from(outcome.is_ok());
        });
        let following = tokio::spawn(following);
        sleep(Duration::from_millis(50_500)).await;
        assert_eq!(asked.lock().unwrap().split_off(0), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 41]);
        is_away.notify_waiters();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(asked.lock().unwrap().split_off(0), [50]);
        assert_eq!(*found.lock().unwrap(), 3);
        following.abort();
        assert_eq!(lookup_delay(1_000), MAX_LOOKUP_DELAY);
    }
}
