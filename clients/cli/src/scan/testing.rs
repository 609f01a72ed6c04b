//! Helpers of the tests.

use std::convert::Infallible;

use tenant_auth_svc::domain::key::KeyFormat;

use super::{Finding, KeyLayout, Matcher, Sink, Stopped, matcher::Match};

/// Generates a key as the service does.
pub(crate) fn generate_key(prefix: &str) -> String {
    KeyFormat::new(prefix).unwrap().generate().unwrap().expose().to_owned()
}

pub(crate) fn matcher(prefixes: &[&str]) -> Matcher {
    Matcher::new(prefixes.iter().map(|prefix| KeyLayout::new(prefix).unwrap()).collect()).unwrap()
}

pub(super) fn find_all(matcher: &Matcher, bytes: &[u8]) -> Vec<Match> {
    let mut all = Vec::new();
    let Ok(()) = matcher.search::<Infallible>(bytes, 0, |found| {
        all.push(found);
        Ok(())
    });
    all
}

/// Keeps all results.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// As `path:line: hint`.
    pub(super) found: Vec<String>,
    /// As `path: why`.
    pub(super) unread: Vec<String>,
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl Sink for Collected {
    fn found(&mut self, finding: Finding<'_>) -> Result<(), Stopped> {
        let line = finding.line.map_or_else(String::new, |line| format!(":{line}"));
        self.found.push(format!("{}{line}: {}", finding.path, finding.key.hint));
        Ok(())
    }

    fn unread(&mut self, path: &str, why: &str) {
        self.unread.push(format!("{path}: {why}"));
    }

    fn searched(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn finished(&mut self) {
        self.files += 1;
    }
}
