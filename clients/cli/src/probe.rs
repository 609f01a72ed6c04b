//! Detects the protocol of a port without a gRPC response, so that an error can say what to change.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Maximum time for a response: a running service responds at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The HTTP/2 connection preface of a client, with an empty SETTINGS frame.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// For HTTP/1 servers that do not respond to the HTTP/2 preface.
const HTTP1_REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
/// First byte of a TLS alert.
const TLS_ALERT: u8 = 0x15;
/// The type of an HTTP/2 SETTINGS frame, after the frame length.
const HTTP2_SETTINGS_FRAME: u8 = 0x04;

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortProtocol {
    /// TLS.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// HTTP/1 without TLS.
    Http1,
}

/// Detects the protocol of a port without TLS; `None` if it is unknown.
pub(crate) async fn detect_protocol(endpoint: &str) -> Option<PortProtocol> {
    let address = host_and_port(endpoint)?;
    let probing = async {
        match exchange(address, HTTP2_PREFACE).await {
            None => exchange(address, HTTP1_REQUEST).await,
            protocol => protocol,
        }
    };
    tokio::time::timeout(PROBE_TIMEOUT, probing).await.ok().flatten()
}

async fn exchange(address: (&str, u16), request: &[u8]) -> Option<PortProtocol> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request).await.ok()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head).await.ok()?;
    classify_reply(head)
}

fn classify_reply(head: [u8; 5]) -> Option<PortProtocol> {
    match head {
        [TLS_ALERT, 3, ..] => Some(PortProtocol::Tls),
        [0, 0, _, HTTP2_SETTINGS_FRAME, _] => Some(PortProtocol::Http2),
        head if &head == b"HTTP/" => Some(PortProtocol::Http1),
        _ => None,
    }
}

/// Returns the host and the port of an endpoint.
pub(crate) fn host_and_port(endpoint: &str) -> Option<(&str, u16)> {
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
    fn endpoint_is_split_into_host_and_port() {
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
            assert_eq!(host_and_port(endpoint), expected, "{endpoint}");
        }
    }

    #[test]
    fn protocol_is_detected_by_first_bytes() {
        assert_eq!(classify_reply([0x15, 3, 3, 0, 2]), Some(PortProtocol::Tls));
        assert_eq!(classify_reply([0, 0, 18, 4, 0]), Some(PortProtocol::Http2));
        assert_eq!(classify_reply(*b"HTTP/"), Some(PortProtocol::Http1));
        assert_eq!(classify_reply(*b"220 m"), None);
    }
}
