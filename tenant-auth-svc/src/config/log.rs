//! Logging.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _},
    num::NonZeroU32,
};

use tracing_subscriber::EnvFilter;

use super::{parse::parse_number, reader::ConfigReader};

/// Logging.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `TENANT_AUTH_LOG`: which events to log, for example `info` or `info,tenant_auth::rpc=warn`. Default `info`.
    pub filter: String,
    /// `TENANT_AUTH_LOG_FORMAT`: `text`, `json`, or `auto`, which is text on a terminal and JSON otherwise. Default
    /// `auto`.
    pub format: LogFormat,
    /// Whether text is coloured: on a terminal, unless `NO_COLOR` is set to any value.
    pub colours: bool,
    /// `TENANT_AUTH_LOG_BURST`: how many lines of one kind are written before further ones are suppressed and only
    /// counted, for 10 s at a time. While the flood continues, one line and a count are written every 10 s. 0 to
    /// 1,000,000; 0 writes every line (`None`). Default 5.
    pub burst: Option<NonZeroU32>,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Colour codes in a file or a pipe disturb the programs that read it.
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

impl LogConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let filter = reader.value("TENANT_AUTH_LOG", "info", |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| {
                format!("invalid log filter: {error}; use for example info or info,tenant_auth::rpc=warn")
            })
        });
        let format = reader.value("TENANT_AUTH_LOG_FORMAT", "auto", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            "auto" if io::stderr().is_terminal() => Ok(LogFormat::Text),
            "auto" => Ok(LogFormat::Json),
            _ => Err(format!("must be text, json or auto, not {text:?}")),
        });
        let burst = reader.value("TENANT_AUTH_LOG_BURST", "5", parse_number(0..=1_000_000));
        let burst = burst.map(|burst| u32::try_from(burst).ok().and_then(NonZeroU32::new));
        let colours = is_coloured(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
        Some(Self { filter: filter?, format: format?, colours, burst: burst? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_require_a_terminal_without_no_color() {
        let value = |text: &'static str| Some(OsStr::new(text));
        for (is_terminal, no_color, expected) in [
            (true, None, true),
            (true, value(""), true),
            (true, value("1"), false),
            (true, value("0"), false),
            (false, None, false),
            (false, value(""), false),
        ] {
            assert_eq!(is_coloured(is_terminal, no_color), expected, "{is_terminal} {no_color:?}");
        }
    }
}
