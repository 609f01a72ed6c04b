//! The forms of endpoints.

use std::net::{Ipv6Addr, SocketAddr};

use tenant_auth_client::{Client, Error};

use crate::harness::{Service, Stopped, WAIT_TIMEOUT, until};

async fn answers(endpoint: &str) -> Result<(), Error> {
    let client = Client::builder(endpoint).timeout(WAIT_TIMEOUT).without_near_cache().connect_lazy()?;
    client.server_info().await.map(|_| ())
}

#[tokio::test]
async fn every_endpoint_form_connects() {
    let service = Service::start().await;
    let port = service.running.address().port();
    for host in ["127.0.0.1", "localhost", "dns:///localhost", "dns:///127.0.0.1", "http://localhost"] {
        assert_eq!(answers(&format!("{host}:{port}")).await, Ok(()), "{host}");
    }
}

#[tokio::test]
async fn ipv6_endpoint_connects() {
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let (running, _folder) = Stopped::new(address).start_with(&[]).await;
    let port = running.address().port();
    for endpoint in ["[::1]", "http://[::1]", "dns:///[::1]"] {
        assert_eq!(answers(&format!("{endpoint}:{port}")).await, Ok(()), "{endpoint}");
    }
}

#[tokio::test]
async fn unreachable_endpoint_fails_no_call() {
    let (first, second) = (Service::start().await, Service::start().await);
    let [first_address, second_address] = [&first, &second].map(|service| service.running.address());
    // The third endpoint has no listener.
    let client = Client::builder(format!("{first_address},dns:///{second_address}"))
        .endpoint("127.0.0.1:1")
        .timeout(WAIT_TIMEOUT);
    let client = client.without_near_cache().connect_lazy().unwrap();
    let uptime = async || client.server_info().await.unwrap().uptime;
    // The uptimes identify the replicas: a later response has a greater uptime unless it comes from the other
    // replica.
    let uptimes = [first.client.server_info().await.unwrap(), second.client.server_info().await.unwrap()];
    let gap = uptimes[0].uptime.abs_diff(uptimes[1].uptime);
    let mut last = uptime().await;
    until(async || {
        let current = uptime().await;
        let is_another = current.abs_diff(last) > gap / 2;
        last = current;
        is_another
    })
    .await;
    first.stop().await;
    for _ in 0..20 {
        uptime().await;
    }
}
