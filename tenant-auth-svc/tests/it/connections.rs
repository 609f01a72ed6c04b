//! Connections in front of a stub service: their number, their limits, and how each one ends.

mod limits;
mod termination;

use http::StatusCode;
use tenant_auth_svc::transport::ServerConfig;
use tokio::net::TcpStream;

use crate::harness::{
    TestDatabase, TestService,
    stub_server::{Client, IMMEDIATE_PATH, StubServer, unlimited_durations, until_stream_closed, wait_until},
};

fn assert_even(connections: &[usize], workers: usize, total: usize) {
    let (least, most) = (connections.iter().min().unwrap(), connections.iter().max().unwrap());
    assert_eq!((connections.len(), connections.iter().sum::<usize>()), (workers, total), "{connections:?}");
    assert!(most - least <= 1, "{connections:?}");
}

#[tokio::test]
async fn connections_are_spread_evenly_over_workers() {
    for workers in [2, 4] {
        for total in [3, 64] {
            let config = ServerConfig { workers, max_connections: 1_000, limits: unlimited_durations() };
            let host = StubServer::start_with(config, None).await;
            let mut clients = Vec::new();
            for _ in 0..total {
                let mut client = host.client().await;
                assert_eq!(client.send(IMMEDIATE_PATH).await.unwrap(), StatusCode::OK);
                clients.push(client);
            }
            assert_even(&host.connections_per_worker(), workers, total);

            // Workers accept in turn, so these connections are all on one worker. New connections even out
            // the load.
            let mut number = 0..;
            clients.retain(|_| number.next().is_some_and(|number| number % workers == 0));
            let kept = clients.len();
            wait_until(|| host.connection_count() == kept).await;
            assert!(host.connections_per_worker().contains(&kept), "{:?}", host.connections_per_worker());
            while clients.len() < total {
                let mut client = host.client().await;
                client.send(IMMEDIATE_PATH).await.unwrap();
                clients.push(client);
            }
            assert_even(&host.connections_per_worker(), workers, total);
        }
    }
}

#[tokio::test]
async fn service_starts_configured_number_of_workers() {
    for workers in [2, 4] {
        let settings =
            TestDatabase::embedded().settings().with_flag("TENANT_AUTH_WORKERS", Some(workers.to_string()));
        let service =
            TestService::start_with(settings, tenant_auth_svc::domain::clock::SystemClock::shared()).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let stream = TcpStream::connect(service.running.address()).await.unwrap();
            let mut client = Client::connect_over(stream).await.unwrap();
            client.send("/").await.unwrap();
            clients.push(client);
        }
        assert_even(&service.running.connections_per_worker(), workers, 3);
    }
}

#[tokio::test]
async fn connection_over_limit_is_closed_until_another_ends() {
    let config = ServerConfig { workers: 2, max_connections: 2, limits: unlimited_durations() };
    let host = StubServer::start_with(config, None).await;
    let (mut first, mut second) = (host.client().await, host.client().await);
    for client in [&mut first, &mut second] {
        client.send(IMMEDIATE_PATH).await.unwrap();
    }
    for _ in 0..3 {
        until_stream_closed(TcpStream::connect(host.address).await.unwrap()).await;
    }
    assert_eq!(host.connection_count(), 2);
    second.send(IMMEDIATE_PATH).await.unwrap();

    drop(first.requests);
    first.connection.await.unwrap();
    wait_until(|| host.connection_count() == 1).await;
    host.client().await.send(IMMEDIATE_PATH).await.unwrap();
    second.send(IMMEDIATE_PATH).await.unwrap();
}
