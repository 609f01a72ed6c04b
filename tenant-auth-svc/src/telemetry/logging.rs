//! Logs: one line per event on standard error, for a person or a collector.
//!
//! An RPC writes one line, target `tenant_auth::rpc`. Successful validations, session and usage calls are
//! logged at `debug`, since there are thousands per second and the metrics count them. Database failures have
//! separate lines. No line contains a key, a token or a pepper: their types have no readable `Debug`, and a
//! test searches the log for a planted one.
//!
//! The log stays small, whatever callers send and however long an outage lasts: no value is longer than
//! `line::MAX_VALUE_BYTES`, and of many lines of one kind only some are written, with the number of the
//! others.

mod format;
mod line;
mod sampling;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::MakeWriter,
    layer::{Context, SubscriberExt as _},
};

use self::{line::LogLine, sampling::LogSampler};
use crate::{
    config::{LogConfig, LogFormat},
    domain::clock::SharedClock,
};

/// The target of the access log.
pub const RPC_TARGET: &str = "tenant_auth::rpc";

/// The number of suppressed lines. Static, because a process has one log.
static SUPPRESSED_LINES: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lines that were suppressed because there were too many of their kind.
#[must_use]
pub fn suppressed_lines() -> u64 {
    SUPPRESSED_LINES.load(Ordering::Relaxed)
}

/// A log that may have pending summaries of suppressed lines.
#[derive(Clone)]
pub struct Log(Arc<dyn CountFlusher>);

impl Log {
    /// Writes the summaries that are due. Must be called about once per second: after a flood, no further
    /// line may come that would write its summary.
    pub fn flush_due_counts(&self) {
        self.0.flush_counts(false);
    }

    /// Writes all summaries: no line follows.
    pub fn finish(&self) {
        self.0.flush_counts(true);
    }
}

/// Creates the subscriber for all events, by the configuration, and its log.
///
/// An invalid filter was refused with the configuration; here it would mean `info`.
pub fn subscriber<W>(
    config: &LogConfig,
    clock: SharedClock,
    writer: W,
) -> (impl Subscriber + Send + Sync + 'static, Log)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let sampling = config.burst.map(|burst| LogSampler::new(burst, clock));
    let lines = Arc::new(LineWriter { format: config.format, colours: config.colours, sampling, writer });
    let log = Log(Arc::clone(&lines) as Arc<dyn CountFlusher>);
    (Registry::default().with(LogLayer(lines).with_filter(filter)), log)
}

/// Formats and writes lines.
struct LineWriter<W> {
    format: LogFormat,
    colours: bool,
    /// `None` if every line is written.
    sampling: Option<LogSampler>,
    writer: W,
}

impl<W> LineWriter<W>
where
    W: for<'w> MakeWriter<'w>,
{
    fn write(&self, line: &LogLine) {
        let text = match self.format {
            LogFormat::Json => format::json(line),
            LogFormat::Text => format::text(line, self.colours),
        };
        // One write per line, so that lines of several threads do not mix. A write error cannot be logged, so
        // it is ignored.
        let _ = self.writer.make_writer().write_all(text.as_bytes());
    }
}

trait CountFlusher: Send + Sync {
    fn flush_counts(&self, all: bool);
}

impl<W> CountFlusher for LineWriter<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync,
{
    fn flush_counts(&self, all: bool) {
        for line in self.sampling.iter().flat_map(|sampling| sampling.take_due_counts(all)) {
            self.write(&line);
        }
    }
}

/// Writes events. Spans are ignored: this crate has none, and those of libraries would repeat field names.
struct LogLayer<W>(Arc<LineWriter<W>>);

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = LogLine::from_event(event);
        match &self.0.sampling {
            Some(sampling) if LogSampler::is_sampled(event.metadata()) => {
                let (due, line) = sampling.sample(event.metadata(), line);
                for line in due.iter().chain(&line) {
                    self.0.write(line);
                }
                if line.is_none() {
                    SUPPRESSED_LINES.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => self.0.write(&line),
        }
    }
}

#[cfg(test)]
mod tests;
