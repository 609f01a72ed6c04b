//! The overview: what is wrong, since when, and what customers feel.

mod plots;
mod verdict;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _, stream};
use http::request::Parts;
use maud::{Markup, html};

use self::verdict::Verdict;
use super::{
    Console, fleet,
    history::Sample,
    html::{Place, page},
    live::{self, Part},
    person::Person,
};
use crate::{
    domain::clock::UnixMillis,
    ops::{describe_parts, status::ServiceStatus},
};

/// How long the page waits for the other replicas.
const PATIENCE: Duration = Duration::from_millis(60);
/// How often the verdict is reached again while somebody looks.
const VERDICT_INTERVAL: Duration = Duration::from_secs(1);
/// How often the replicas are asked while somebody looks.
const FLEET_INTERVAL: Duration = Duration::from_secs(5);

// The ids of the live parts.
const VERDICT: &str = "verdict";
const SUMMARY: &str = "summary";
const PLOTS: &str = "plots";
const LATEST: &str = "latest";
const FLEET: &str = "fleet";
const FACTS: &str = "facts";

pub(super) async fn show(State(console): State<Arc<Console>>, person: Person) -> Response {
    let replicas = console.fleet.look(&person, PATIENCE).await;
    let now = Now::of(&console);
    let samples = console.history.samples();
    let plots = plots::plots(&samples);
    let content = html! {
        div data-live="/events" {
            section #(VERDICT) data-part aria-label="Verdict" { (now.verdict.render()) }
            // Read aloud when something happens, and not every second.
            p.hidden #(SUMMARY) role="status" data-part { (now.verdict.summary) }
            p.live-state {}
            h2 { "The last hour" }
            div.plots #(PLOTS) data-part { (plots::figures(&plots, &samples)) }
            details {
                summary { "The same as a table" }
                div.scroll tabindex="0" role="region" aria-label="The last hour as a table" {
                    table {
                        thead { tr { th scope="col" { "Value" } th.number scope="col" { "Latest" } th.number scope="col" { "Highest" } } }
                        tbody #(LATEST) data-part { (plots::latest(&plots)) }
                    }
                }
            }
            h2 { "Replicas" }
            div #(FLEET) data-part { (fleet::table(&replicas)) }
            h2 { "Parts of this replica" }
            dl.facts #(FACTS) data-part { (now.facts()) }
        }
    };
    page(&person, Place::Overview, "Overview", &content).into_response()
}

/// The live parts of the page.
pub(super) async fn stream(State(console): State<Arc<Console>>, person: Person, request: Parts) -> Response {
    let parts = stream::select(verdicts(Arc::clone(&console)), replicas(Arc::clone(&console), person));
    live::respond(&console, request, parts)
}

/// Reaches a verdict each second. Plots and facts follow with each sample, and with each verdict of another kind.
fn verdicts(console: Arc<Console>) -> impl Stream<Item = Part> + Send {
    let start = (live::ticks(VERDICT_INTERVAL), None::<(String, Option<UnixMillis>)>);
    let verdicts = stream::unfold(start, move |(mut ticks, before)| {
        let console = Arc::clone(&console);
        async move {
            ticks.tick().await;
            let now = Now::of(&console);
            let kind = now.kind();
            let mut parts = now.parts();
            if before.as_ref() != Some(&kind) {
                parts.extend(now.later_parts(&console.history.samples()));
            }
            Some((stream::iter(parts), (ticks, Some(kind))))
        }
    });
    verdicts.flatten()
}

fn replicas(console: Arc<Console>, person: Person) -> impl Stream<Item = Part> + Send {
    let start = (live::ticks(FLEET_INTERVAL), console.fleet.watch());
    stream::unfold(start, move |(mut ticks, watching)| {
        let (console, person) = (Arc::clone(&console), person.clone());
        async move {
            ticks.tick().await;
            let replicas = console.fleet.ask(&person).await;
            Some((Part::new(FLEET, fleet::table(&replicas)), (ticks, watching)))
        }
    })
}

/// What is known about this replica now.
struct Now {
    status: ServiceStatus,
    newest: Option<Sample>,
    verdict: Verdict,
}

impl Now {
    fn of(console: &Console) -> Self {
        let (status, newest) = ((console.parts.status)(), console.history.newest());
        let verdict = Verdict::of(&status, console.history.answered(), newest.as_ref());
        Self { status, newest, verdict }
    }

    /// What differs only after something has happened.
    fn kind(&self) -> (String, Option<UnixMillis>) {
        (self.verdict.summary.clone(), self.newest.map(|sample| sample.at))
    }

    /// How each part is, as in `/readyz?verbose`.
    fn facts(&self) -> Markup {
        html! { @for (name, value) in describe_parts(&self.status) { dt { (name) } dd { (value) } } }
    }

    fn parts(&self) -> Vec<Part> {
        let summary = html! { (self.verdict.summary) };
        vec![Part::new(VERDICT, self.verdict.render()), Part::new(SUMMARY, summary)]
    }

    /// The parts that follow with each sample.
    fn later_parts(&self, samples: &[Sample]) -> Vec<Part> {
        let plots = plots::plots(samples);
        vec![
            Part::new(PLOTS, plots::figures(&plots, samples)),
            Part::new(LATEST, plots::latest(&plots)),
            Part::new(FACTS, self.facts()),
        ]
    }
}
