//! Finds keys in files, archives, streams and the history of repositories.
//!
//! A text is a key if it has the layout and the checksum of a key, so look-alikes are not reported. A key is
//! never shown and never sent: a finding has its first characters and its SHA-256.

mod archive;
mod content;
mod detect;
mod exclude;
mod git;
/// The layout of keys: the file of the service itself, so that both agree.
#[path = "../../../tenant-auth-svc/src/domain/key/format/layout.rs"]
#[allow(dead_code, unreachable_pub, reason = "a scan issues no keys")]
mod layout;
mod lines;
mod matcher;
mod sink;
mod stream;
mod tar;
#[cfg(test)]
mod testing;
mod walk;
mod zip;

pub(crate) use self::{
    content::Scanner,
    exclude::Excludes,
    layout::KeyLayout,
    matcher::{FoundKey, Matcher},
    sink::{Finding, Sink, Stopped},
    walk::{Walk, scan_path},
};
