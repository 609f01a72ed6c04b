//! Names that do not resolve at first, and resolve to other addresses later.

use std::convert::Infallible;

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::body::Body;

use super::{super::Address, *};

/// Starts a replica that returns empty responses and records the `:authority` of each request.
async fn replica(authorities: Arc<Mutex<Vec<String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let authorities = Arc::clone(&authorities);
            let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let authority = request.uri().authority().unwrap().to_string();
                authorities.lock().unwrap().push(authority);
                async { Ok::<_, Infallible>(Response::new(Body::empty())) }
            });
            let executor = hyper_util::rt::TokioExecutor::new();
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(executor)
                    .serve_connection(TokioIo::new(socket), answer),
            );
        }
    });
    address
}

/// Returns a pool whose lookups finish when the test applies their outcome.
fn pool(hosts: &[&str]) -> Pool {
    let target = |host: &&str| {
        Target::new(Address { host: (*host).to_owned(), port: 50051 }, "tests/1.0", None).unwrap()
    };
    let resolver: Resolver = Arc::new(|_| Box::pin(std::future::pending()));
    Pool::with_resolver(hosts.iter().map(target).collect(), Arc::default(), resolver)
}

fn not_found_error() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such name")
}

#[tokio::test]
async fn new_names_are_used_as_soon_as_they_resolve() {
    let authorities: Arc<Mutex<Vec<String>>> = Arc::default();
    let (first_address, second_address) =
        (replica(Arc::clone(&authorities)).await, replica(Arc::clone(&authorities)).await);
    let pool = pool(&["late", "later"]);
    // A caller that asks before any lookup has finished waits for it.
    let mut waiting = Box::pin(pool.next_connection(None));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    for number in [0, 1] {
        pool.0.apply_lookup(number, Err(not_found_error()));
    }
    let error = waiting.await.unwrap_err();
    assert!(error.to_string().contains("no such name"), "{error}");
    assert!(!pool.is_connected());

    pool.0.apply_lookup(1, Ok(vec![second_address]));
    let second = pool.next_connection(None).await.unwrap();
    assert!(pool.alternative_to(&second).is_none());
    pool.0.apply_lookup(0, Ok(vec![first_address]));
    let first = loop {
        match pool.alternative_to(&second) {
            Some(first) => break first,
            None => tokio::task::yield_now().await,
        }
    };
    assert_ne!(first.replica_id(), second.replica_id());
    // Each replica is addressed by the name that resolved to it.
    for connection in [&first, &second] {
        connection.ping();
    }
    while authorities.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut requested = authorities.lock().unwrap().clone();
    requested.sort_unstable();
    assert_eq!(requested, ["late:50051", "later:50051"]);

    // A failed lookup does not change the replicas; one with other addresses does.
    pool.0.apply_lookup(0, Err(not_found_error()));
    // Waits until the replica has answered the ping.
    while pool.alternative_to(&second).is_none() {
        tokio::task::yield_now().await;
    }
    pool.0.apply_lookup(1, Ok(vec![first_address]));
    while pool.0.connected().iter().any(|connection| connection.replica_id() == second.replica_id()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn refused_connection_without_alternative_fails_at_once() {
    let pool = pool(&["127.0.0.1"]);
    let error = pool.next_connection(None).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}
