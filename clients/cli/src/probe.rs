//! What is spoken where no gRPC answer comes from, so that an error can say which side has to change.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long to listen for an answer: a service that is there gives it at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// How a client of HTTP/2 begins, and its settings, of which there are none.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// For servers of HTTP/1 that have no answer to that.
const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// The first byte of an alert of TLS.
const ALERT: u8 = 0x15;
/// The kind of a frame with settings, behind its length.
const SETTINGS: u8 = 0x04;

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// TLS.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// HTTP/1 without TLS.
    Http1,
}

/// Asks a port what it speaks, without TLS; `None` when it does not say.
pub(crate) async fn spoken(endpoint: &str) -> Option<Spoken> {
    let address = address(endpoint)?;
    let asked = async {
        match asked(address, BEGINNING).await {
            None => asked(address, GET).await,
            heard => heard,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}

async fn asked(address: (&str, u16), what: &[u8]) -> Option<Spoken> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(what).await.ok()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.ok()?;
    heard(head)
}

fn heard(head: [u8; 5]) -> Option<Spoken> {
    match head {
        [ALERT, 3, ..] => Some(Spoken::Tls),
        [0, 0, _, SETTINGS, _] => Some(Spoken::Http2),
        head if &head == b"HTTP/" => Some(Spoken::Http1),
        _ => None,
    }
}

/// Host and port of an endpoint, whatever stands around them.
pub(crate) fn address(endpoint: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
    let authority = rest.split('/').find(|part| !part.is_empty())?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    Some((host.trim_start_matches('[').trim_end_matches(']'), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_host_and_a_port() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:50051", Some(("127.0.0.1", 50_051))),
            ("https://host/", Some(("host", 443))),
            ("http://[::1]:7", Some(("::1", 7))),
            ("http://[::1]", Some(("::1", 80))),
            ("host:7", Some(("host", 7))),
            ("dns:///host:7", Some(("host", 7))),
            ("http://host:port", None),
            ("http://", None),
        ] {
            assert_eq!(address(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn what_is_spoken_is_known_by_its_beginning() {
        assert_eq!(heard([0x15, 3, 3, 0, 2]), Some(Spoken::Tls));
        assert_eq!(heard([0, 0, 18, 4, 0]), Some(Spoken::Http2));
        assert_eq!(heard(*b"HTTP/"), Some(Spoken::Http1));
        assert_eq!(heard(*b"220 m"), None);
    }
}
