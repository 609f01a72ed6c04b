//! The plots of the overview.

use maud::{Markup, html};

use super::super::{
    history::{RESULTS, Sample},
    plot::{Line, Plot, Unit, render, rows},
};
use crate::domain::{clock::UnixMillis, store::Lane, verdict::Source};

/// The results that are no answer.
const UNANSWERED: [bool; RESULTS.len()] = [false, false, true, true];

/// All plots of these samples.
pub(super) fn plots(samples: &[Sample]) -> Vec<Plot> {
    let values = |value: &dyn Fn(&Sample) -> f32| samples.iter().map(value).collect::<Vec<_>>();
    let line = |label, value: &dyn Fn(&Sample) -> f32| Line { label, values: values(value), is_bad: false };
    let results = RESULTS.into_iter().zip(UNANSWERED).enumerate().map(|(place, (label, is_bad))| {
        let of = move |sample: &Sample| at(&sample.requests, place);
        Line { is_bad, ..line(label, &of) }
    });
    let sources = Source::ALL.into_iter().filter(|source| *source != Source::None);
    let sources =
        sources.map(|source| line(source.as_str(), &move |sample| at(&sample.sources, source as usize)));
    let lanes = Lane::ALL
        .into_iter()
        .map(|lane| line(lane.as_str(), &move |sample| at(&sample.database_calls, lane.index())));
    let plot = |id, title, unit, lines| Plot { id, title, unit, lines };
    vec![
        plot("requests", "Requests by result", Unit::Rate, results.collect()),
        plot(
            "latency",
            "Latency",
            Unit::Seconds,
            vec![line("99 % within", &|sample| sample.p99), line("half within", &|sample| sample.median)],
        ),
        plot("sources", "Answers by source", Unit::Rate, sources.collect()),
        plot(
            "oldest",
            "Age of the oldest answer",
            Unit::Seconds,
            vec![line("oldest", &|sample| sample.oldest_answer)],
        ),
        plot(
            "feed",
            "Time since the change log was read",
            Unit::Seconds,
            vec![line("time", &|sample| sample.feed_lag)],
        ),
        plot("calls", "Database calls by lane", Unit::Rate, lanes.collect()),
        plot(
            "cache",
            "Entries in the cache",
            Unit::Count,
            vec![line("keys and sessions", &|sample| sample.cache_entries)],
        ),
        plot(
            "usage",
            "Usage events that wait",
            Unit::Count,
            vec![line("events", &|sample| sample.usage_queue)],
        ),
    ]
}

/// The plots.
pub(super) fn figures(plots: &[Plot], samples: &[Sample]) -> Markup {
    let times: Vec<UnixMillis> = samples.iter().map(|sample| sample.at).collect();
    html! { @for plot in plots { (render(plot, &times)) } }
}

/// The rows of the table that says the same.
pub(super) fn latest(plots: &[Plot]) -> Markup {
    rows(plots)
}

fn at<const N: usize>(values: &[f32; N], place: usize) -> f32 {
    values.get(place).copied().unwrap_or(f32::NAN)
}
