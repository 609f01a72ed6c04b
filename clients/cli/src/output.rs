//! Writes results to standard output and everything else to standard error. Only this module writes.

mod json_list;
mod list;
mod table;

use std::io::{self, Write as _};

use serde::Serialize;

pub(crate) use self::{
    json_list::JsonList,
    list::{Item, ListRenderer},
    table::{details, render_table},
};
use crate::failure::{ErrorReport, Failure};

/// A result. Its fields are the JSON document.
pub(crate) trait View: Serialize {
    /// Returns the result as text, without a final line end.
    fn text(&self) -> String;

    /// Returns a note for users, beside the result.
    fn note(&self) -> Option<&'static str> {
        None
    }
}

/// The form of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes a result. A reader that closed the pipe, as `head` does, is not a failure.
    pub(crate) fn show(self, view: &impl View) -> Result<(), Failure> {
        ignore_broken_pipe(write_stdout_line(&self.render(view)?))?;
        if let Some(note) = view.note() {
            self.advise(note);
        }
        Ok(())
    }

    /// Writes a result that cannot be requested again: any error is a failure.
    pub(crate) fn show_or_fail(self, view: &impl View) -> Result<(), Failure> {
        self.render(view).and_then(|text| write_stdout_line(&text).map_err(stdout_failure))
    }

    /// Returns whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Returns a renderer for a list that is written page by page.
    pub(crate) fn list<V: Item>(self) -> ListRenderer<V> {
        ListRenderer::new(self.json)
    }

    /// Writes a part of a result. Returns whether the reader reads on: a reader that closed the pipe, as
    /// `head` does, is not a failure.
    ///
    /// A reader may be slow, as `less` is; meanwhile the connection to the service is kept alive.
    pub(crate) async fn write_chunk(self, text: String) -> Result<bool, Failure> {
        match tokio::task::spawn_blocking(move || self.write_part(&text)).await {
            Ok(written) => written,
            Err(error) => Err(Failure::Unexpected(format!("cannot write to standard output: {error}"))),
        }
    }

    /// As `write_chunk`, for a command without a connection.
    pub(crate) fn write_part(self, text: &str) -> Result<bool, Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(stdout_failure(error)),
        }
    }

    /// Writes one line unchanged, in any form.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        ignore_broken_pipe(write_stdout_line(text))
    }

    /// Writes one line unchanged; any error is a failure.
    pub(crate) fn line_or_fail(self, text: &str) -> Result<(), Failure> {
        write_stdout_line(text).map_err(stdout_failure)
    }

    /// Writes a note to standard error: a line, or `{"note": …}`.
    pub(crate) fn note(self, text: &str) {
        if self.json {
            self.write_json_line("note", text);
        } else {
            write_stderr_line(&printable(text));
        }
    }

    /// Writes a note for users; omitted with JSON.
    pub(crate) fn advise(self, text: &str) {
        if !self.json {
            self.note(text);
        }
    }

    /// Writes one JSON document per line of standard error, so that scripts can parse it line by line.
    fn write_json_line(self, name: &str, value: impl Serialize) {
        // Serialization of these values does not fail.
        if let Ok(value) = serde_json::to_value(value) {
            write_stderr_line(&serde_json::json!({ name: value }).to_string());
        }
    }

    /// Writes an error report.
    pub(crate) fn report(self, report: &ErrorReport) {
        if self.json {
            return self.write_json_line("error", report);
        }
        self.note(&format!("error: {}", report.message));
        for problem in &report.violations {
            self.note(&format!("  {}: {}", problem.field, problem.description));
        }
        if let Some(hint) = &report.hint {
            self.note(&format!("hint: {hint}"));
        }
    }

    fn render(self, view: &impl View) -> Result<String, Failure> {
        if !self.json {
            return Ok(view.text());
        }
        serde_json::to_string_pretty(view)
            .map_err(|error| Failure::Unexpected(format!("cannot write the result as JSON: {error}")))
    }
}

fn write_stderr_line(text: &str) {
    // A failure to write to standard error cannot be reported.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn write_stdout_line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

fn stdout_failure(error: io::Error) -> Failure {
    Failure::Unexpected(format!("cannot write to standard output: {error}"))
}

fn ignore_broken_pipe(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(stdout_failure(error)),
        _ => Ok(()),
    }
}

/// Replaces characters that could control the terminal or disguise text. A name stored before the service
/// rejected such names may contain direction marks or invisible letters.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c| !is_printable(c), "\u{fffd}")
}

fn is_printable(c: char) -> bool {
    match c {
        // The joiners that Indic and Arabic scripts need.
        '\u{200c}' | '\u{200d}' | '"' | '\'' | '\\' => true,
        '\u{2028}' | '\u{2029}' => false,
        c if c.is_whitespace() => !c.is_control(),
        // A mark alone would be escaped, too; after a letter, only unprintable characters are escaped.
        c => !format!("a{c}").escape_debug().any(|escaped| escaped == '\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unprintable_characters_are_replaced() {
        assert_eq!(printable("a\u{1b}[31m\r\nb"), "a\u{fffd}[31m\u{fffd}\u{fffd}b");
        assert_eq!(printable("a\u{202e}b\u{200b}\u{feff}\u{2028}"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}");
        let fine = "O'Neil \"&\" 山田\u{3000}می\u{200c}خ e\u{301} \\";
        assert_eq!(printable(fine), fine);
    }

    #[test]
    fn only_broken_pipe_is_ignored() {
        assert!(ignore_broken_pipe(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(ignore_broken_pipe(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
