//! Renders a JSON document with a long list, part by part.
//!
//! The document has the same layout as any other. An interrupted list is left open, so that a reader cannot take the
//! part for the whole.

use serde::Serialize;

/// A document whose first field is a list.
#[derive(Debug)]
pub(crate) struct JsonList {
    /// The name of the list.
    name: &'static str,
    has_started: bool,
}

impl JsonList {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, has_started: false }
    }

    /// Renders further items; returns an empty text for none.
    pub(crate) fn items<T: Serialize>(&mut self, items: &[T]) -> Result<String, serde_json::Error> {
        let mut text = String::new();
        for item in items {
            if self.has_started {
                text.push(',');
            } else {
                text += &self.opening();
                self.has_started = true;
            }
            // JSON strings contain no line breaks: all line breaks belong to the layout.
            text += "\n    ";
            text += &serde_json::to_string_pretty(item)?.replace('\n', "\n    ");
        }
        Ok(text)
    }

    /// Renders the end of the list and the other fields of the document, of which there is at least one.
    pub(crate) fn end(self, fields: &impl Serialize) -> Result<String, serde_json::Error> {
        let list = if self.has_started { "\n  ".to_owned() } else { self.opening() };
        let fields = serde_json::to_string_pretty(fields)?;
        Ok(format!("{list}],{}\n", fields.trim_start_matches('{')))
    }

    fn opening(&self) -> String {
        format!("{{\n  \"{}\": [", self.name)
    }
}
