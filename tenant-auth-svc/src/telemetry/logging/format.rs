//! The formats of a line.

use std::fmt::Write as _;

use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Serializer, Value};
use tracing::Level;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::line::LogLine;

/// Formats a line as one JSON object, for a collector.
pub(super) fn json(line: &LogLine) -> String {
    let mut text = Vec::new();
    // Serialization of these types into memory does not fail.
    let _ = write_object(line, &mut text);
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default()
}

fn write_object(line: &LogLine, into: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut serializer = Serializer::new(into);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("timestamp", &timestamp())?;
    object.serialize_entry("level", line.level.as_str())?;
    object.serialize_entry("message", &line.message)?;
    for (name, value) in &line.fields {
        object.serialize_entry(name, value)?;
    }
    object.serialize_entry("target", line.target)?;
    object.end()
}

/// Formats a line for a person.
pub(super) fn text(line: &LogLine, colours: bool) -> String {
    let LogLine { level, target, message, fields } = line;
    let mut text = timestamp();
    // Writing into a `String` does not fail.
    let _ = if colours {
        write!(text, " \x1b[{}m{level:>5}\x1b[0m {target}: {message}", ansi_colour(*level))
    } else {
        write!(text, " {level:>5} {target}: {message}")
    };
    for (name, value) in fields {
        let _ = match value {
            Value::String(value) => write!(text, " {name}=\"{}\"", value.replace('"', "\\\"")),
            value => write!(text, " {name}={value}"),
        };
    }
    text.push('\n');
    text
}

fn ansi_colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

fn timestamp() -> String {
    let mut now = String::new();
    // If the clock cannot be read, the time is empty.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}
