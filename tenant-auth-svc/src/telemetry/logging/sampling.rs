//! Of many lines of one kind, some are written, and how many were not.
//!
//! Anybody can be refused as often as it likes, and in an outage every request fails: a line for each would bury what
//! matters, and fill the disk. Of one kind come the first few, then, as long as it goes on, one each interval and the
//! number of those left out. No line is left out that is not counted.

use std::{
    borrow::Cow,
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tracing::{Level, Metadata, callsite::Identifier};

use super::line::LogLine;
use crate::domain::{audit::AUDIT_LOG_TARGET, clock::SharedClock, verdict::DENIALS_LOG_TARGET};

/// How long lines of a kind are counted before their number is told.
const SAMPLING_INTERVAL: Duration = Duration::from_secs(10);
/// The fields that tell kinds of one event apart: words of ours, and ids of records in the database. None that a caller can make up.
const KIND_FIELDS: [&str; 13] = [
    "rpc",
    "code",
    "database",
    "lane",
    "operation",
    "kind",
    "circuit",
    "table",
    "id",
    "what",
    "reason",
    "verdict",
    "key_id",
];
/// The most kinds that are told apart. Beyond it, all further ones of an event are one kind.
const MAX_KINDS: usize = 512;

/// Which lines are written.
#[derive(Debug)]
pub(super) struct LogSampler {
    burst: NonZeroU32,
    clock: SharedClock,
    kinds: Mutex<HashMap<LineKind, LineKindState>>,
}

/// Lines that say the same about different requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKind {
    callsite: Identifier,
    fields: Vec<(Cow<'static, str>, String)>,
}

/// What was seen of a kind in the present interval.
#[derive(Debug)]
struct LineKindState {
    level: Level,
    target: &'static str,
    message: String,
    interval_start: Duration,
    /// How many more may be written.
    remaining: u32,
    suppressed: u64,
}

impl LogSampler {
    /// So many of a kind are written at first, in an interval.
    pub(super) fn new(burst: NonZeroU32, clock: SharedClock) -> Self {
        Self { burst, clock, kinds: Mutex::default() }
    }

    /// Whether lines of this event may be left out. Never what stands in for the audit log, nor what only those see who have
    /// asked for every detail: but denials, which are `debug` and come as often as anybody likes.
    pub(super) fn is_sampled(event: &Metadata<'_>) -> bool {
        match event.target() {
            AUDIT_LOG_TARGET => false,
            DENIALS_LOG_TARGET => true,
            _ => *event.level() <= Level::INFO,
        }
    }

    /// The count that is due before a line of this event, and the line, if it is to be written.
    pub(super) fn sample(&self, event: &Metadata<'_>, line: LogLine) -> (Option<LogLine>, Option<LogLine>) {
        let mut kind = LineKind { callsite: event.callsite(), fields: Vec::new() };
        for (name, value) in &line.fields {
            if let (true, Value::String(value)) = (KIND_FIELDS.contains(&&**name), value) {
                kind.fields.push((name.clone(), value.clone()));
            }
        }
        let now = self.clock.monotonic();
        let mut kinds = self.lock_kinds();
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kind.fields.clear();
        }
        let of = kind.fields.clone();
        let seen = kinds.entry(kind).or_insert_with(|| LineKindState {
            level: line.level,
            target: line.target,
            message: line.message.clone(),
            interval_start: now,
            remaining: self.burst.get(),
            suppressed: 0,
        });
        let due = (now.saturating_sub(seen.interval_start) >= SAMPLING_INTERVAL)
            .then(|| seen.start_interval(&of, now, self.burst));
        if seen.remaining == 0 {
            seen.suppressed += 1;
            return (due.flatten(), None);
        }
        seen.remaining -= 1;
        (due.flatten(), Some(line))
    }

    /// The counts that are due, or all.
    pub(super) fn take_due_counts(&self, all: bool) -> Vec<LogLine> {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        self.lock_kinds().retain(|kind, seen| {
            if !all && now.saturating_sub(seen.interval_start) < SAMPLING_INTERVAL {
                return true;
            }
            let count = seen.start_interval(&kind.fields, now, self.burst);
            let goes_on = count.is_some();
            due.extend(count);
            goes_on
        });
        due
    }

    fn lock_kinds(&self) -> MutexGuard<'_, HashMap<LineKind, LineKindState>> {
        // Every change is one step.
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LineKindState {
    /// Begins another interval; how many lines the last one has left out, if any.
    fn start_interval(
        &mut self,
        of: &[(Cow<'static, str>, String)],
        now: Duration,
        burst: NonZeroU32,
    ) -> Option<LogLine> {
        let took = now.saturating_sub(self.interval_start).as_secs();
        let left_out = std::mem::take(&mut self.suppressed);
        self.interval_start = now;
        if left_out == 0 {
            self.remaining = burst.get();
            return None;
        }
        // It goes on: one is enough to show how.
        self.remaining = 1;
        let mut fields: Vec<_> =
            of.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        fields.push((Cow::Borrowed("left_out"), Value::from(left_out)));
        let message = format!("{}: … and {left_out} more in {took} s", self.message);
        Some(LogLine { level: self.level, target: self.target, message, fields })
    }
}
