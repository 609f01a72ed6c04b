//! Limits the lines of one kind: some are written, and the number of the others.
//!
//! Callers can cause any number of refusals, and in an outage every request fails. A line for each would hide
//! other lines and fill the disk. Of one kind, the first few lines are written, then one per interval with
//! the number of suppressed lines, as long as they continue. Every suppressed line is counted.

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

/// The interval after which the number of suppressed lines of a kind is written.
const SAMPLING_INTERVAL: Duration = Duration::from_secs(10);
/// The fields whose values distinguish the kinds of one event: constants, and ids of records in the database.
/// Callers can choose none of them freely.
const KIND_FIELDS: [&str; 14] = [
    "door",
    "rpc.method",
    "rpc.response.status_code",
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
/// The message of a line that stands for others.
const SUPPRESSED_MESSAGE: &str = "similar log lines suppressed";
/// The maximum number of kinds. Beyond it, all new kinds of one event count as one.
const MAX_KINDS: usize = 512;

/// Decides which lines are written.
#[derive(Debug)]
pub(super) struct LogSampler {
    burst: NonZeroU32,
    clock: SharedClock,
    kinds: Mutex<HashMap<LineKind, LineKindState>>,
}

/// Identifies lines that differ only in their request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKind {
    callsite: Identifier,
    fields: Vec<(Cow<'static, str>, String)>,
}

/// The state of a kind in the current interval.
#[derive(Debug)]
struct LineKindState {
    level: Level,
    target: &'static str,
    message: String,
    interval_start: Duration,
    /// The number of lines that may still be written.
    remaining: u32,
    suppressed: u64,
}

impl LogSampler {
    /// Creates a sampler that writes this many lines of a kind at the start of an interval.
    pub(super) fn new(burst: NonZeroU32, clock: SharedClock) -> Self {
        Self { burst, clock, kinds: Mutex::default() }
    }

    /// Returns whether lines of this event may be suppressed. Lines that replace audit log entries never are,
    /// and `debug` lines only if they are denials, which callers can cause at any rate.
    pub(super) fn is_sampled(event: &Metadata<'_>) -> bool {
        match event.target() {
            AUDIT_LOG_TARGET => false,
            DENIALS_LOG_TARGET => true,
            _ => *event.level() <= Level::INFO,
        }
    }

    /// Returns the summary that is due before a line of this event, and the line, if it is to be written.
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

    /// Returns the summaries that are due, or all.
    pub(super) fn take_due_counts(&self, all: bool) -> Vec<LogLine> {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        self.lock_kinds().retain(|kind, seen| {
            if !all && now.saturating_sub(seen.interval_start) < SAMPLING_INTERVAL {
                return true;
            }
            let count = seen.start_interval(&kind.fields, now, self.burst);
            let is_active = count.is_some();
            due.extend(count);
            is_active
        });
        due
    }

    fn lock_kinds(&self) -> MutexGuard<'_, HashMap<LineKind, LineKindState>> {
        // A panic cannot leave the state inconsistent: every change is a single step.
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
        let suppressed = std::mem::take(&mut self.suppressed);
        self.interval_start = now;
        if suppressed == 0 {
            self.remaining = burst.get();
            return None;
        }
        // It goes on: one is enough to show how.
        self.remaining = 1;
        let mut fields: Vec<_> =
            of.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        fields.extend([
            (Cow::Borrowed("suppressed_message"), Value::from(&*self.message)),
            (Cow::Borrowed("suppressed_lines"), Value::from(suppressed)),
            (Cow::Borrowed("interval_s"), Value::from(took)),
        ]);
        let message = SUPPRESSED_MESSAGE.to_owned();
        Some(LogLine { level: self.level, target: self.target, message, fields })
    }
}
