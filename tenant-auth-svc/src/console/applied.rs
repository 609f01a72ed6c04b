//! How many replicas have applied a change.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    response::Response,
};
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use http::request::Parts;
use maud::{Markup, html};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Console,
    fleet::{Contact, Replica, Silence},
    html::id,
    live::{self, Part},
    person::Person,
};

/// The id of the part.
const PART: &str = "applied";
/// How long the page itself waits: a change arrives at the other replicas with their next poll of the change log.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long the stream waits.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long one call of a replica waits.
const CALL_WAIT: Duration = Duration::from_secs(5);
/// The pause before a replica that cannot be reached is called again.
const PAUSE: Duration = Duration::from_secs(1);

/// The revision of a change.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    revision: i64,
}

/// Says how many replicas have applied a change, and keeps saying it until all have. Without JavaScript it says what is known
/// after a moment.
pub(super) async fn part(console: &Console, person: &Person, revision: i64) -> Markup {
    let replicas = console.fleet.look(person, PATIENCE).await;
    let mut progress = Progress::new(&replicas, revision);
    let mut waits = progress.waits(replicas, revision, Instant::now() + PATIENCE);
    while let Some((place, outcome)) = waits.next().await {
        progress.note(place, outcome);
    }
    let stream = format!("/applied?revision={revision}");
    html! {
        div data-live=[(!progress.is_complete()).then_some(stream)] {
            div #(PART) role="status" data-part { (progress.text(false)) }
        }
    }
}

/// The same as a stream, which ends when all replicas have applied the change, or after 30 s.
pub(super) async fn stream(
    State(console): State<Arc<Console>>,
    person: Person,
    Query(Change { revision }): Query<Change>,
    request: Parts,
) -> Response {
    let watching = console.fleet.watch();
    let replicas = console.fleet.ask(&person).await;
    let mut progress = Progress::new(&replicas, revision);
    let waits = progress.waits(replicas, revision, Instant::now() + MAX_WAIT);
    let mut left = waits.len();
    let first = Part::new(PART, progress.text(left == 0));
    let later = waits.map(move |(place, outcome)| {
        let _open = &watching;
        left -= 1;
        progress.note(place, outcome);
        Part::new(PART, progress.text(left == 0))
    });
    live::respond(&console, request, stream::iter([first]).chain(later))
}

/// Which replicas have applied a change.
struct Progress(Vec<(String, Applied)>);

/// Whether a replica has applied a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Applied {
    Yes,
    NotYet,
    /// It is not known which replicas a name stands for.
    Asked,
    Unknown(String),
}

type Outcome = (usize, Applied);

impl Progress {
    fn new(replicas: &[Replica], revision: i64) -> Self {
        let applied = |replica: &Replica| match &replica.answer {
            Ok(described) if described.applied_revision() >= revision => Applied::Yes,
            Ok(_) => Applied::NotYet,
            Err(Silence::Asked) => Applied::Asked,
            Err(Silence::Failed(why)) => Applied::Unknown(why.clone()),
        };
        Self(replicas.iter().map(|replica| (replica.name().to_owned(), applied(replica))).collect())
    }

    /// Waits for each replica that may still apply the change.
    fn waits(
        &self,
        replicas: Vec<Replica>,
        revision: i64,
        end: Instant,
    ) -> FuturesUnordered<impl Future<Output = Outcome> + use<>> {
        let places = replicas.into_iter().zip(&self.0).enumerate();
        let waiting = places.filter(|(_, (_, (_, applied)))| *applied != Applied::Yes);
        let waiting = waiting.filter_map(|(place, (replica, _))| Some((place, replica.contact?)));
        waiting.map(|(place, contact)| wait_for(place, contact, revision, end)).collect()
    }

    fn note(&mut self, place: usize, applied: Applied) {
        if let Some((_, known)) = self.0.get_mut(place) {
            *known = applied;
        }
    }

    fn is_complete(&self) -> bool {
        self.0.iter().all(|(_, applied)| *applied == Applied::Yes)
    }

    /// `is_last`: whether nobody waits any more.
    fn text(&self, is_last: bool) -> Markup {
        let (all, done) =
            (self.0.len(), self.0.iter().filter(|(_, applied)| *applied == Applied::Yes).count());
        let is_asking = self.0.iter().any(|(_, applied)| *applied == Applied::Asked);
        html! {
            p {
                @if self.is_complete() && all == 1 {
                    span.tag.good { "Applied" } " by this replica, the only one that is known here."
                } @else if self.is_complete() {
                    span.tag.good { "Applied" } " by " (all) " of " (all) " replicas."
                } @else if is_asking {
                    span.tag { "Applied" } " by " (done) ". Other replicas are being asked …"
                } @else if is_last {
                    span.tag.bad { "Not applied everywhere" } " Applied by " (done) " of " (all) " replicas after "
                    (MAX_WAIT.as_secs()) " s."
                } @else {
                    span.tag { "Applied" } " by " (done) " of " (all) " replicas …"
                }
            }
            @for (name, applied) in &self.0 {
                @match applied {
                    Applied::NotYet if is_last => p { (id(name)) " has not applied it yet." },
                    Applied::Unknown(why) => p { (id(name)) ": " (why) },
                    Applied::NotYet | Applied::Yes | Applied::Asked => {}
                }
            }
        }
    }
}

/// Calls a replica until it has applied the change.
async fn wait_for(place: usize, contact: Contact, revision: i64, end: Instant) -> Outcome {
    let mut last = Applied::NotYet;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // The answer of a replica that hangs comes after the end.
        match timeout_at(end, contact.wait_for(revision, left.min(CALL_WAIT))).await {
            Ok(Ok(true)) => return (place, Applied::Yes),
            Ok(Ok(false)) => last = Applied::NotYet,
            Ok(Err(why)) => last = Applied::Unknown(why),
            Err(_) => return (place, last),
        }
        let pause = if last == Applied::NotYet { Duration::ZERO } else { PAUSE };
        if Instant::now() + pause >= end {
            return (place, last);
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(states: &[Applied], is_last: bool) -> String {
        let states =
            states.iter().enumerate().map(|(place, state)| (format!("10.0.0.{place}:1"), state.clone()));
        let markup = Progress(states.collect()).text(is_last).into_string();
        let mut text = String::new();
        let mut is_tag = false;
        for c in markup.replace("</p>", "\n").chars() {
            match c {
                '<' => is_tag = true,
                '>' => is_tag = false,
                c if !is_tag => text.push(c),
                _ => {}
            }
        }
        text
    }

    #[test]
    fn progress_says_how_many_replicas_have_applied_a_change() {
        use Applied::{Asked, NotYet, Unknown, Yes};
        let down = || Unknown("no answer within 1 s".to_owned());
        for (states, is_last, expected) in [
            (vec![Yes], false, "Applied by this replica, the only one that is known here.\n"),
            (vec![Yes, Yes, Yes], true, "Applied by 3 of 3 replicas.\n"),
            (vec![Yes, NotYet, Yes], false, "Applied by 2 of 3 replicas …\n"),
            (vec![Yes, Asked], false, "Applied by 1. Other replicas are being asked …\n"),
            (
                vec![Yes, NotYet, down()],
                true,
                "Not applied everywhere Applied by 1 of 3 replicas after 30 s.\n\
                 10.0.0.1:1 has not applied it yet.\n10.0.0.2:1: no answer within 1 s\n",
            ),
            (vec![Yes, down()], false, "Applied by 1 of 2 replicas …\n10.0.0.1:1: no answer within 1 s\n"),
        ] {
            assert_eq!(text(&states, is_last), expected);
        }
    }
}
