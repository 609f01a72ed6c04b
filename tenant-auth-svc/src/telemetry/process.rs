//! What the operating system says about this process. Linux only: elsewhere there is nothing to read, and nothing is told.

use std::{fs, path::Path};

/// What there is to say. What could not be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<f64>,
    /// Threads.
    pub threads: Option<f64>,
    /// File descriptors that are open.
    pub open_fds: Option<f64>,
    /// File descriptors that may be.
    pub max_fds: Option<f64>,
}

/// The unit of processor times in `/proc`, whatever the kernel's own is: it is part of what it promises to programs.
const TICKS_A_SECOND: f64 = 100.0;

impl Process {
    /// Looks now.
    #[must_use]
    pub fn look() -> Self {
        Self::look_at(Path::new("/proc/self"))
    }

    fn look_at(folder: &Path) -> Self {
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let (status, limits) = (read("status"), read("limits"));
        let open = fs::read_dir(folder.join("fd")).map(Iterator::count).ok();
        Self {
            cpu_seconds: cpu(&read("stat")),
            resident_bytes: after(&status, "VmRSS:").map(|kilobytes| kilobytes * 1_024.0),
            threads: after(&status, "Threads:"),
            // One of them is that of the look itself.
            open_fds: open.and_then(|open| u32::try_from(open.saturating_sub(1)).ok()).map(f64::from),
            max_fds: after(&limits, "Max open files"),
        }
    }
}

/// The first number after a word at the beginning of a line.
fn after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The 14th and 15th field, counted from after the name, which may hold anything but ends with the last parenthesis.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("stat", "42 (a) name 1 2) S 1 42 42 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 100 1 2 3\n");
        write("status", "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t9\n");
        write("limits", "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n");
        fs::create_dir(folder.path().join("fd")).unwrap();
        for fd in ["0", "1", "2", "3"] {
            write(&format!("fd/{fd}"), "");
        }
        let expected = Process {
            cpu_seconds: Some(3.0),
            resident_bytes: Some(2_097_152.0),
            threads: Some(9.0),
            open_fds: Some(3.0),
            max_fds: Some(1_024.0),
        };
        assert_eq!(Process::look_at(folder.path()), expected);
        assert_eq!(Process::look_at(&folder.path().join("none")), Process::default(), "not Linux");
    }
}
