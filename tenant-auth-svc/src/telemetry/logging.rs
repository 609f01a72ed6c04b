//! Logs: one event a line on standard error, for a person or for a collector.
//!
//! An RPC leaves one line, target `tenant_auth::rpc`: those of the daily traffic that went well at `debug`, since there
//! are thousands a second and metrics count them; trouble with the database leaves lines of its own. No line ever
//! holds a key, a token or a pepper: they live in types without a readable `Debug`, and a test looks for a planted one.
//!
//! Whatever callers do, and however long the database is away, the log stays small: no value is longer than
//! `line::MAX_VALUE`, and of many lines of one kind only some are written, and how many were not.

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

use self::{line::Line, sampling::Sampling};
use crate::{
    config::{LogConfig, LogFormat},
    domain::clock::SharedClock,
};

/// Where the one line of an RPC goes.
pub const RPC_TARGET: &str = "tenant_auth::rpc";

/// Lines that were not written, in this process, which has one log.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// How many lines were not written because there were so many of their kind.
#[must_use]
pub fn left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// A log that may owe a count of lines that it has left out.
#[derive(Clone)]
pub struct Log(Arc<dyn Owes>);

impl Log {
    /// Writes the counts that are due. Somebody has to call it about once a second: what a flood left out must be told
    /// though nothing comes after it.
    pub fn tell(&self) {
        self.0.tell(false);
    }

    /// Writes every count: nothing comes after this.
    pub fn finish(&self) {
        self.0.tell(true);
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
    let sampling = config.burst.map(|burst| Sampling::new(burst, clock));
    let lines = Arc::new(Lines { format: config.format, colours: config.colours, sampling, writer });
    let log = Log(Arc::clone(&lines) as Arc<dyn Owes>);
    (Registry::default().with(Written(lines).with_filter(filter)), log)
}

/// Where lines go.
struct Lines<W> {
    format: LogFormat,
    colours: bool,
    /// `None` where every line is written.
    sampling: Option<Sampling>,
    writer: W,
}

impl<W> Lines<W>
where
    W: for<'w> MakeWriter<'w>,
{
    fn write(&self, line: &Line) {
        let text = match self.format {
            LogFormat::Json => format::json(line),
            LogFormat::Text => format::text(line, self.colours),
        };
        // In one piece, so that lines of several threads do not mix. Where a log cannot be written there is nobody to tell.
        let _ = self.writer.make_writer().write_all(text.as_bytes());
    }
}

trait Owes: Send + Sync {
    fn tell(&self, all: bool);
}

impl<W> Owes for Lines<W>
where
    W: for<'w> MakeWriter<'w> + Send + Sync,
{
    fn tell(&self, all: bool) {
        for line in self.sampling.iter().flat_map(|sampling| sampling.due(all)) {
            self.write(&line);
        }
    }
}

/// Writes events down. What happens within spans is written without them: this crate has none, and those of libraries
/// would repeat the names of fields.
struct Written<W>(Arc<Lines<W>>);

impl<S, W> Layer<S> for Written<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event);
        match &self.0.sampling {
            Some(sampling) if Sampling::concerns(event.metadata()) => {
                let (due, line) = sampling.pass(event.metadata(), line);
                for line in due.iter().chain(&line) {
                    self.0.write(line);
                }
                if line.is_none() {
                    LEFT_OUT.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => self.0.write(&line),
        }
    }
}

#[cfg(test)]
mod tests;
