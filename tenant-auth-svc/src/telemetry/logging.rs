//! Logs: one event a line on standard error, for a person or for a collector.
//!
//! An RPC leaves one line, target `tenant_auth::rpc`: those of the daily traffic that went well at `debug`, since there
//! are thousands a second and metrics count them; trouble with the database leaves lines of its own. No line ever
//! holds a key, a token or a pepper: they live in types without a readable `Debug`, and a test looks for a planted one.
//!
//! Whatever callers do, and however long the database is away, the log stays small: no value is longer than
//! `line::MAX_VALUE_BYTES`, and of many lines of one kind only some are written, and how many were not.

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

/// Where the one line of an RPC goes.
pub const RPC_TARGET: &str = "tenant_auth::rpc";

/// Lines that were not written, in this process, which has one log.
static SUPPRESSED_LINES: AtomicU64 = AtomicU64::new(0);

/// How many lines were not written because there were so many of their kind.
#[must_use]
pub fn suppressed_lines() -> u64 {
    SUPPRESSED_LINES.load(Ordering::Relaxed)
}

/// A log that may owe a count of lines that it has left out.
#[derive(Clone)]
pub struct Log(Arc<dyn CountFlusher>);

impl Log {
    /// Writes the counts that are due. Somebody has to call it about once a second: what a flood left out must be told
    /// though nothing comes after it.
    pub fn flush_due_counts(&self) {
        self.0.flush_counts(false);
    }

    /// Writes every count: nothing comes after this.
    pub fn finish(&self) {
        self.0.flush_counts(true);
    }
}

/// What events are sent to, by the configuration, and the log itself.
///
/// A filter that cannot be read was refused with the configuration; here it would mean everything from `info` on.
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

/// Where lines go.
struct LineWriter<W> {
    format: LogFormat,
    colours: bool,
    /// `None` where every line is written.
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
        // In one piece, so that lines of several threads do not mix. Where a log cannot be written there is nobody to tell.
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

/// Writes events down. What happens within spans is written without them: this crate has none, and those of libraries
/// would repeat the names of fields.
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
