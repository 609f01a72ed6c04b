//! What is wrong, since when, and what customers feel, in sentences.

mod problems;
mod sentence;
#[cfg(test)]
mod tests;

use maud::{Markup, html};

use self::problems::Problem;
pub(super) use self::sentence::Sentence;
use super::super::{
    history::{Answered, Sample},
    plot::{Unit, count, show},
};
use crate::ops::status::ServiceStatus;

/// How a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What is wrong, without times, so that it changes only when something happens.
    pub(super) summary: String,
    /// The worst problem, or that there is none, and then what customers feel.
    pub(super) main: Sentence,
    /// The other problems, the worst first; or a few facts.
    pub(super) others: Vec<Sentence>,
    /// Whether anything is wrong.
    pub(super) is_bad: bool,
}

impl Verdict {
    /// Judges a status, and how requests of the last minute were answered. `newest`: the newest sample.
    pub(super) fn of(status: &ServiceStatus, answered: Answered, newest: Option<&Sample>) -> Self {
        let mut problems = problems::find(status, answered).into_iter();
        let Some(Problem { what, sentence }) = problems.next() else {
            let others = vec![facts(status, newest)];
            let summary = "Everything works.".to_owned();
            return Self { main: Sentence::of(&summary), summary, others, is_bad: false };
        };
        let (more, others): (Vec<_>, Vec<_>) =
            problems.map(|problem| (problem.what, problem.sentence)).unzip();
        let summary = std::iter::once(what).chain(more).collect::<Vec<_>>().join(" ");
        Self { summary, main: sentence, others, is_bad: true }
    }

    /// The sentences as the head of the page.
    pub(super) fn render(&self) -> Markup {
        html! {
            div.verdict.bad[self.is_bad] {
                h1 { (self.main.render()) }
                @for other in &self.others { p { @if self.is_bad { "Also: " } (other.render()) } }
            }
        }
    }
}

/// What works is worth a line. Nothing in it changes between two samples.
fn facts(status: &ServiceStatus, newest: Option<&Sample>) -> Sentence {
    let facts = Sentence::of("Ready since ").at(status.phase_since.wall).then(".");
    let Some(newest) = newest else { return facts };
    let rate: f32 = newest.requests.iter().sum();
    let facts = match newest.p99.is_nan() {
        true => facts.then(" No request in the last 10 s"),
        false => facts.then(&format!(
            " {} requests a second, 99 % of them within {}",
            count(rate),
            show(newest.p99, Unit::Seconds)
        )),
    };
    facts.then(&format!("; {} keys and sessions in the cache.", count(newest.cache_entries)))
}
