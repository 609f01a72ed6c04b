//! Live parts of pages: a stream of fragments for one browser.
//!
//! The stream ends with the server, and when the person is logged out or removed. The browser then connects again: to another
//! replica, or to the login, which is no stream, so that it marks what it shows as old.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, future, stream};
use http::{HeaderName, HeaderValue, request::Parts};
use maud::Markup;

use super::Console;

/// How often a stream checks that its person is still logged in.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a stream that has nothing to say sends a comment, so that no proxy closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Asks nginx to pass on what arrives at once.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The new content of the element with this id.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) content: Markup,
}

impl Part {
    pub(super) fn new(id: &'static str, content: Markup) -> Self {
        Self { id, content }
    }
}

/// Sends parts whenever they differ from what was sent before. At the end of `parts`, an event says that nothing
/// more follows. `request` is the request for the stream.
pub(super) fn respond(
    console: &Arc<Console>,
    request: Parts,
    parts: impl Stream<Item = Part> + Send + 'static,
) -> Response {
    let mut sent = SentParts::default();
    let changed = parts.filter_map(move |part| future::ready(sent.is_new(&part).then(|| event(part))));
    let events = changed.chain(stream::once(future::ready(Event::default().event("end").data("end"))));
    let end = future::select(console.end.clone(), Box::pin(until_logged_out(Arc::clone(console), request)));
    let events = events.take_until(end).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn event(part: Part) -> Event {
    Event::default().event(format!("part-{}", part.id)).data(part.content.into_string())
}

async fn until_logged_out(console: Arc<Console>, request: Parts) {
    let mut ticks = ticks(CHECK_INTERVAL);
    while console.is_logged_in(&request) {
        ticks.tick().await;
    }
}

/// Ticks now, and then at this interval, without catching up after a delay.
pub(super) fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Hashes of what was sent: a part with plots is large, and there is one of these per browser.
#[derive(Default)]
struct SentParts(HashMap<&'static str, u64>);

impl SentParts {
    fn is_new(&mut self, part: &Part) -> bool {
        let mut hasher = DefaultHasher::new();
        part.content.0.hash(&mut hasher);
        let hash = hasher.finish();
        self.0.insert(part.id, hash) != Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    #[test]
    fn part_is_sent_again_only_when_it_differs() {
        let mut sent = SentParts::default();
        let part = |id, text: &str| Part::new(id, html! { (text) });
        assert!(sent.is_new(&part("verdict", "a")));
        assert!(!sent.is_new(&part("verdict", "a")));
        assert!(sent.is_new(&part("fleet", "a")), "another part");
        assert!(sent.is_new(&part("verdict", "b")));
        assert!(sent.is_new(&part("verdict", "a")), "as before the last one");
    }
}
