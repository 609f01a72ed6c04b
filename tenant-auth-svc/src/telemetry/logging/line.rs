//! A log line, independent of its format.

use std::{borrow::Cow, error::Error, fmt};

use serde_json::Value;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// The maximum length of a value, in bytes; slightly more if its last character is escaped. The rest is
/// replaced by the length of the value: a part of the logged text comes from callers, servers and libraries.
pub(super) const MAX_VALUE_BYTES: usize = 512;

/// The fields that every line has before the fields of its event.
const RESERVED_FIELDS: [&str; 4] = ["timestamp", "level", "message", "target"];

/// The content of a line. Field names are unique, and differ from those that every line has.
#[derive(Clone, Debug)]
pub(super) struct LogLine {
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) message: String,
    pub(super) fields: Vec<(Cow<'static, str>, Value)>,
}

impl LogLine {
    /// Creates the line of an event.
    pub(super) fn from_event(event: &Event<'_>) -> Self {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let mut read = FieldVisitor { message: None, fields: Vec::new() };
        event.record(&mut read);
        Self { level, target, message: read.message.unwrap_or_default(), fields: read.fields }
    }
}

/// Collects the fields of an event.
struct FieldVisitor {
    message: Option<String>,
    fields: Vec<(Cow<'static, str>, Value)>,
}

impl FieldVisitor {
    fn push_text(&mut self, field: &Field, text: impl fmt::Display) {
        let text = truncate_value(text);
        // The message of the event precedes its fields.
        if field.name() == "message" && self.message.is_none() {
            self.message = Some(text);
        } else {
            self.push_value(field, text);
        }
    }

    fn push_value(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        let is_taken = |name: &str| {
            RESERVED_FIELDS.contains(&name) || self.fields.iter().any(|(taken, _)| taken == name)
        };
        let name = if is_taken(name) {
            let numbered = (2..).map(|number| format!("{name}_{number}")).find(|name| !is_taken(name));
            Cow::Owned(numbered.unwrap_or_default())
        } else {
            Cow::Borrowed(name)
        };
        self.fields.push((name, value.into()));
    }
}

impl Visit for FieldVisitor {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push_value(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_value(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_value(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.push_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push_text(field, format_args!("{value:?}"));
    }
}

/// Text without characters that corrupt a terminal or a line, of at most [`MAX_VALUE_BYTES`].
fn truncate_value(text: impl fmt::Display) -> String {
    let mut bounded = BoundedText::default();
    // If `Debug` or `Display` fails, the text written so far is used.
    let _ = fmt::Write::write_fmt(&mut bounded, format_args!("{text}"));
    let BoundedText { mut text, total_bytes, is_truncated } = bounded;
    if is_truncated {
        text.push_str(&format!("… ({total_bytes} bytes)"));
    }
    text
}

#[derive(Default)]
struct BoundedText {
    text: String,
    /// The length of the whole text.
    total_bytes: usize,
    is_truncated: bool,
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.total_bytes += text.len();
        for c in text.chars() {
            self.is_truncated |= self.text.len() + c.len_utf8() > MAX_VALUE_BYTES;
            if self.is_truncated {
                break;
            }
            match c {
                '"' | '\'' | '\\' => self.text.push(c),
                // Control characters, direction marks and invisible characters.
                _ => self.text.extend(c.escape_debug()),
            }
        }
        Ok(())
    }
}
