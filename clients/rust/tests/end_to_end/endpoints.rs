//! Where the service is, as people write it.

use std::net::{Ipv6Addr, SocketAddr};

use tenant_auth_client::{Client, Error};

use super::{Service, Stopped, WAIT_TIMEOUT, until};

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
    let [one, other] = [&first, &second].map(|service| service.running.address());
    // Nobody is at home at the third.
    let client =
        Client::builder(format!("{one},dns:///{other}")).endpoint("127.0.0.1:1").timeout(WAIT_TIMEOUT);
    let client = client.without_near_cache().connect_lazy().unwrap();
    let now = async || client.server_info().await.unwrap().uptime;
    // Their ages tell them apart: one that is asked later is older unless it is another one.
    let ages = [first.client.server_info().await.unwrap(), second.client.server_info().await.unwrap()];
    let gap = ages[0].uptime.abs_diff(ages[1].uptime);
    let mut last = now().await;
    until(async || {
        let age = now().await;
        let is_another = age.abs_diff(last) > gap / 2;
        last = age;
        is_another
    })
    .await;
    first.stop().await;
    for _ in 0..20 {
        now().await;
    }
}
