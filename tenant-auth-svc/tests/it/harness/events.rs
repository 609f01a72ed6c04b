//! Server-sent events of the console, and pages that become as wanted.

use std::{collections::HashMap, time::Duration};

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::console::Browser;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Generous enough for a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Follows a link again and again until the page has what is wanted.
pub(crate) async fn page_until(browser: &Browser, path: &str, wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let looking = async {
        loop {
            last = browser.page(path).await;
            if wanted(&last) {
                return;
            }
            // Without a pause, the requests would keep a busy machine from the work that they wait for.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let found = timeout(WAIT_TIMEOUT, looking).await;
    assert!(found.is_ok(), "{path} must become as wanted: {last}");
    last
}

/// A stream of server-sent events.
pub(crate) struct EventStream {
    body: Incoming,
    unread: String,
    /// What was sent last, by the name of the event.
    last: HashMap<String, String>,
}

impl EventStream {
    /// Opens a stream, with the cookie of a browser.
    pub(crate) async fn open(browser: &Browser, path: &str) -> Self {
        let stream = TcpStream::connect(browser.address).await.unwrap();
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", browser.address.to_string());
        if let Some(cookie) = &browser.cookie {
            request = request.header("cookie", cookie);
        }
        let response =
            requests.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), unread: String::new(), last: HashMap::new() }
    }

    /// Returns the next event: its name and its data; `None` at the end. Nothing may be sent twice in a row.
    pub(crate) async fn next(&mut self) -> Option<(String, String)> {
        loop {
            let text = self.next_block().await?;
            let field = |name: &str| {
                let values: Vec<_> = text.lines().filter_map(|line| line.strip_prefix(name)).collect();
                values.join("\n")
            };
            let (name, data) = (field("event: "), field("data: "));
            // A comment that keeps the connection open.
            if name.is_empty() {
                continue;
            }
            let before = self.last.insert(name.clone(), data.clone());
            assert_ne!(before.as_ref(), Some(&data), "{name} was sent twice");
            return Some((name, data));
        }
    }

    async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let block = block.to_owned();
                self.unread = rest.to_owned();
                return Some(block);
            }
            let frame =
                timeout(WAIT_TIMEOUT, self.body.frame()).await.expect("the stream must go on or end")?;
            let data = frame.expect("the stream must end properly").into_data().unwrap();
            self.unread.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// Reads until an event of a name has what is wanted, and returns its data.
    pub(crate) async fn until(&mut self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        let reading = async {
            while let Some((sent, data)) = self.next().await {
                if sent == name && wanted(&data) {
                    return data;
                }
            }
            panic!("the stream must not end before {name} is as wanted: {:?}", self.last);
        };
        timeout(WAIT_TIMEOUT, reading).await.expect("the event must come")
    }

    /// Reads to the end.
    pub(crate) async fn until_end(&mut self) {
        let reading = async { while self.next().await.is_some() {} };
        timeout(WAIT_TIMEOUT, reading).await.expect("the stream must end");
    }
}
