//! Sentences with clock times, which browsers can show in local time, too.

use std::{fmt, time::Duration};

use maud::{Markup, html};

use crate::{domain::clock::UnixMillis, ops::format_rfc3339};

/// One sentence, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Sentence(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    At(Clock),
}

/// A clock time in UTC, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Clock {
    at: UnixMillis,
    shown: String,
}

impl Sentence {
    pub(super) fn of(text: &str) -> Self {
        Self::default().then(text)
    }

    pub(super) fn then(mut self, text: &str) -> Self {
        self.0.push(Piece::Text(text.to_owned()));
        self
    }

    /// Adds a date and a time of day.
    pub(super) fn at(self, at: UnixMillis) -> Self {
        let shown = format_rfc3339(at);
        let shown = shown.get(..16).unwrap_or(&shown).replace('T', " ");
        self.clock(at, shown)
    }

    /// Adds the time of day; with the date, if it is further away than a day.
    pub(super) fn near(self, at: UnixMillis, now: UnixMillis) -> Self {
        if at.since(now).max(now.since(at)) > Duration::from_secs(86_400) {
            return self.at(at);
        }
        let shown = format_rfc3339(at).get(11..16).unwrap_or_default().to_owned();
        self.clock(at, shown)
    }

    fn clock(mut self, at: UnixMillis, shown: String) -> Self {
        self.0.push(Piece::At(Clock { at, shown: format!("{shown} UTC") }));
        self
    }

    pub(super) fn render(&self) -> Markup {
        html! {
            @for piece in &self.0 {
                @match piece {
                    Piece::Text(text) => (text),
                    Piece::At(Clock { at, shown }) => time datetime=(format_rfc3339(*at)) { (shown) },
                }
            }
        }
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::At(clock) => f.write_str(&clock.shown),
        })
    }
}
