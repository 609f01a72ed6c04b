//! Names that stand for nothing at first, and for something else later.

use std::convert::Infallible;

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::body::Body;

use super::{super::Address, *};

/// A replica that answers everything with nothing, and says at which `:authority` it was asked.
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

/// A pool whose lookups end when the test says so.
fn pool(hosts: &[&str]) -> Pool {
    let target = |host: &&str| {
        Target::new(Address { host: (*host).to_owned(), port: 50051 }, "tests/1.0", None).unwrap()
    };
    let resolver: Resolver = Arc::new(|_| Box::pin(std::future::pending()));
    Pool::resolving(hosts.iter().map(target).collect(), Arc::default(), resolver)
}

fn nobody() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such name")
}

#[tokio::test]
async fn names_that_do_not_exist_yet_are_used_as_soon_as_they_do_first_and_further_ones_alike() {
    let authorities: Arc<Mutex<Vec<String>>> = Arc::default();
    let (one, other) = (replica(Arc::clone(&authorities)).await, replica(Arc::clone(&authorities)).await);
    let pool = pool(&["late", "later"]);
    // Who asks before anything is known waits for it.
    let mut waiting = Box::pin(pool.next(None));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    for number in [0, 1] {
        pool.0.found(number, Err(nobody()));
    }
    let error = waiting.await.unwrap_err();
    assert!(error.to_string().contains("no such name"), "{error}");
    assert!(!pool.is_served());

    pool.0.found(1, Ok(vec![other]));
    let second = pool.next(None).await.unwrap();
    assert!(pool.other_than(&second).is_none());
    pool.0.found(0, Ok(vec![one]));
    let first = loop {
        match pool.other_than(&second) {
            Some(first) => break first,
            None => tokio::task::yield_now().await,
        }
    };
    assert_ne!(first.place(), second.place());
    // Each is asked under the name it was found by.
    for connection in [&first, &second] {
        connection.ask_for_life();
    }
    while authorities.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut asked = authorities.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, ["late:50051", "later:50051"]);

    // A resolver that fails says nothing about the replicas; one that names others does.
    pool.0.found(0, Err(nobody()));
    // Until it has given the sign of life that it was asked for.
    while pool.other_than(&second).is_none() {
        tokio::task::yield_now().await;
    }
    pool.0.found(1, Ok(vec![one]));
    while pool.0.connected().iter().any(|connection| connection.place() == second.place()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_address_that_refuses_is_told_of_at_once_when_there_is_no_other() {
    let pool = pool(&["127.0.0.1"]);
    let refused = pool.next(None).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. }), "{refused:?}");
}
