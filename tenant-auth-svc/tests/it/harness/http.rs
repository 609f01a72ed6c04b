//! Plain HTTP requests, as monitoring sends them.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Maximum time to wait for a response as wanted, generous enough for a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A plain HTTP response.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// Returns the value of a header, in lower case; `None` if it is missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.trim())
    }
}

/// Sends a request without a body, such as `GET /livez`, on a new connection.
pub(crate) async fn http_request(address: SocketAddr, request: &str) -> std::io::Result<HttpAnswer> {
    http_exchange(address, request, &[], "").await
}

/// Sends a request with headers and a body, on a new connection.
pub(crate) async fn http_exchange(
    address: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(address).await?;
    let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: test\r\n" };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{request} HTTP/1.1\r\n{host}connection: close\r\n{headers}{length}\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("the response must have headers and a body");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(HttpAnswer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// Repeats a request until the response is as wanted.
pub(crate) async fn http_until(
    address: SocketAddr,
    request: &str,
    wanted: impl Fn(&HttpAnswer) -> bool,
) -> HttpAnswer {
    let request_loop = async {
        loop {
            let answer = http_request(address, request).await.unwrap();
            if wanted(&answer) {
                return answer;
            }
            // Without a pause, the requests would keep a busy machine from starting the service.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, request_loop).await.expect("the response must become as wanted")
}
