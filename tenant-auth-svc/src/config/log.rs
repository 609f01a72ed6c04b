//! What to log.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use super::reader::Reader;

/// What to log, and how it looks.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `TENANT_AUTH_LOG`: which events, as in `info` or `info,tenant_auth::rpc=warn`. Default `info`.
    pub filter: String,
    /// `TENANT_AUTH_LOG_FORMAT`: `text`, `json`, or `auto`, which is text on a terminal and JSON elsewhere.
    /// Default `auto`.
    pub format: LogFormat,
}

/// How events look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// For a collector: one JSON object a line.
    Json,
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let filter = reader.value("TENANT_AUTH_LOG", "info", |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| {
                format!("is no log filter such as info or info,tenant_auth::rpc=warn: {error}")
            })
        });
        let format = reader.value("TENANT_AUTH_LOG_FORMAT", "auto", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            "auto" if io::stderr().is_terminal() => Ok(LogFormat::Text),
            "auto" => Ok(LogFormat::Json),
            _ => Err(format!("must be text, json or auto, not {text:?}")),
        });
        Some(Self { filter: filter?, format: format? })
    }
}
