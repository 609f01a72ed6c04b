//! The only place that writes: results to standard output, everything else to standard error.

mod list;
mod table;

use std::io::{self, Write as _};

use serde::Serialize;

pub(crate) use self::{
    list::{Item, ListRenderer},
    table::{details, render_table},
};
use crate::failure::{ErrorReport, Failure};

/// A result: its fields are the JSON document.
pub(crate) trait View: Serialize {
    /// The same for people, without a line's end at its end.
    fn text(&self) -> String;

    /// What people should know besides.
    fn note(&self) -> Option<&'static str> {
        None
    }
}

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Writes a result. A reader that went away, as `head` does, is no failure.
    pub(crate) fn show(self, view: &impl View) -> Result<(), Failure> {
        ignore_broken_pipe(write_stdout_line(&self.render(view)?))?;
        if let Some(note) = view.note() {
            self.advise(note);
        }
        Ok(())
    }

    /// Writes a result that nobody can ask for again: any obstacle is a failure.
    pub(crate) fn show_or_fail(self, view: &impl View) -> Result<(), Failure> {
        self.render(view).and_then(|text| write_stdout_line(&text).map_err(stdout_failure))
    }

    /// A list whose pages are rendered as they come.
    pub(crate) fn list<V: Item>(self) -> ListRenderer<V> {
        ListRenderer::new(self.json)
    }

    /// Writes a part of a result. Whether anybody reads on: a reader that went away, as `head` does, is no failure.
    ///
    /// A reader may take its time, as `less` does; meanwhile the connection to the service is kept alive.
    pub(crate) async fn write_chunk(self, text: String) -> Result<bool, Failure> {
        let write = move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Ok(Err(error)) => Err(stdout_failure(error)),
            Err(error) => Err(Failure::Unexpected(format!("cannot write to standard output: {error}"))),
        }
    }

    /// Writes one line as it is, whatever the form.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        ignore_broken_pipe(write_stdout_line(text))
    }

    /// Writes one line as it is, and any obstacle is a failure.
    pub(crate) fn line_or_fail(self, text: &str) -> Result<(), Failure> {
        write_stdout_line(text).map_err(stdout_failure)
    }

    /// Tells something besides the result: a line, or `{"note": …}`.
    pub(crate) fn note(self, text: &str) {
        if self.json {
            self.write_json_line("note", text);
        } else {
            write_stderr_line(&printable(text));
        }
    }

    /// Tells people something besides the result.
    pub(crate) fn advise(self, text: &str) {
        if !self.json {
            self.note(text);
        }
    }

    /// Each on one line of standard error, so that scripts can take the lines one by one.
    fn write_json_line(self, name: &str, value: impl Serialize) {
        // What is text can be written as JSON.
        if let Ok(value) = serde_json::to_value(value) {
            write_stderr_line(&serde_json::json!({ name: value }).to_string());
        }
    }

    /// Tells what went wrong.
    pub(crate) fn report(self, told: &ErrorReport) {
        if self.json {
            return self.write_json_line("error", told);
        }
        self.note(&format!("error: {}", told.message));
        for wrong in &told.violations {
            self.note(&format!("  {}: {}", wrong.field, wrong.description));
        }
        if let Some(hint) = &told.hint {
            self.note(&format!("hint: {hint}"));
        }
    }

    fn render(self, view: &impl View) -> Result<String, Failure> {
        if !self.json {
            return Ok(view.text());
        }
        serde_json::to_string_pretty(view)
            .map_err(|error| Failure::Unexpected(format!("the result is no JSON: {error}")))
    }
}

fn write_stderr_line(text: &str) {
    // There is nobody to tell that standard error is gone.
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

/// What came from elsewhere must neither steer the terminal nor pass for what it is not: a name from before the service
/// refused such names may have marks that turn the direction of writing, or letters that are not seen.
fn printable(text: &str) -> String {
    text.replace(|c| !is_printable(c), "\u{fffd}")
}

fn is_printable(c: char) -> bool {
    match c {
        // The joiners that Indic and Arabic scripts need.
        '\u{200c}' | '\u{200d}' | '"' | '\'' | '\\' => true,
        '\u{2028}' | '\u{2029}' => false,
        c if c.is_whitespace() => !c.is_control(),
        // A mark alone is escaped too; behind a letter only what cannot be printed is.
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
