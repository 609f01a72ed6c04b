//! Queries `/readyz` over plain HTTP.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode, header::HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::HealthcheckError;

/// Maximum response size; the expected response is one word.
const MAX_ANSWER_BYTES: usize = 1_024;

/// Queries the service that listens on `listen` in the same container.
pub(super) async fn check(listen: SocketAddr, timeout: Duration) -> Result<String, HealthcheckError> {
    if listen.port() == 0 {
        let message =
            "TENANT_AUTH_OPS_LISTEN has port 0 (any free port), so the port is unknown; set a fixed port";
        return Err(HealthcheckError::Usage(message.to_owned()));
    }
    let address = loopback_if_unspecified(listen);
    let unresponsive = |error: &dyn std::fmt::Display| {
        HealthcheckError::Unhealthy(format!("http://{address}/readyz does not respond: {error}"))
    };
    match tokio::time::timeout(timeout, get_readyz(address)).await {
        Err(_) => Err(unresponsive(&format_args!("no response within {} ms", timeout.as_millis()))),
        Ok(Err(error)) => Err(unresponsive(&error)),
        Ok(Ok((StatusCode::OK, body))) => Ok(body),
        Ok(Ok((status, body))) => {
            Err(HealthcheckError::Unhealthy(format!("{body} (HTTP {})", status.as_u16())))
        }
    }
}

/// A service that listens on all addresses is queried on loopback.
fn loopback_if_unspecified(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

async fn get_readyz(address: SocketAddr) -> Result<(StatusCode, String), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(HOST, address.to_string()).body(Body::empty())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = to_bytes(Body::new(body), MAX_ANSWER_BYTES).await?;
    Ok((head.status, String::from_utf8_lossy(&body).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_address_is_asked_on_loopback() {
        for (listen, queried) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("127.0.0.2:1", "127.0.0.2:1"),
        ] {
            assert_eq!(loopback_if_unspecified(listen.parse().unwrap()), queried.parse().unwrap());
        }
    }
}
