//! Logs: one event a line on standard error, for a person or for a collector.
//!
//! An RPC leaves one line, target `tenant_auth::rpc`: those of the daily traffic that went well at `debug`, since there
//! are thousands a second and metrics count them; trouble with the database leaves lines of its own. No line ever
//! holds a key, a token or a pepper: they live in types without a readable `Debug`, and a test looks for a planted one.

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, fmt::MakeWriter, layer::SubscriberExt as _, registry::LookupSpan,
};

use crate::config::{LogConfig, LogFormat};

/// Where the one line of an RPC goes.
pub const RPC_TARGET: &str = "tenant_auth::rpc";

/// What events are sent to, by the configuration.
///
/// A filter that cannot be read was refused with the configuration; here it would mean everything from `info` on.
pub fn subscriber<W>(config: &LogConfig, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    Registry::default().with(format(config.format, writer).with_filter(filter))
}

fn format<S, W>(format: LogFormat, writer: W) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(std::env::var_os("NO_COLOR").is_none()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}
