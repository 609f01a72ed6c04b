//! Resource usage of this process. Linux only: on other systems there are no values.

#[cfg(target_os = "linux")]
use super::snapshot::count_to_f64;

/// The values. `None` if a value could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessStats {
    /// Processor time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<f64>,
    /// Number of threads.
    pub threads: Option<f64>,
    /// Number of open file descriptors.
    pub open_fds: Option<f64>,
    /// Maximum number of open file descriptors.
    pub max_fds: Option<f64>,
}

impl ProcessStats {
    /// Reads the current values.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn read() -> Self {
        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else { return Self::default() };
        let stat = process.stat().ok();
        let limits = process.limits().ok();
        Self {
            cpu_seconds: stat
                .as_ref()
                .map(|stat| count_to_f64(stat.utime + stat.stime) / count_to_f64(procfs::ticks_per_second())),
            resident_bytes: stat.as_ref().map(|stat| count_to_f64(stat.rss * procfs::page_size())),
            threads: stat.as_ref().and_then(|stat| u64::try_from(stat.num_threads).ok()).map(count_to_f64),
            // One of the descriptors is that of the directory listing itself.
            open_fds: process.fd_count().ok().map(|open| count_to_f64(open.saturating_sub(1) as u64)),
            max_fds: limits.map(|limits| match limits.max_open_files.soft_limit {
                LimitValue::Unlimited => f64::INFINITY,
                LimitValue::Value(most) => count_to_f64(most),
            }),
        }
    }

    /// Returns no values: this system has no `/proc`.
    #[cfg(not(target_os = "linux"))]
    #[must_use]
    pub fn read() -> Self {
        Self::default()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn linux_process_stats_are_read() {
        let before = ProcessStats::read();
        assert!(before.cpu_seconds.is_some_and(|seconds| (0.0..100_000.0).contains(&seconds)), "{before:?}");
        // Plausible range: at least a megabyte and at most a terabyte.
        assert!(before.resident_bytes.is_some_and(|bytes| (1e6..1e12).contains(&bytes)), "{before:?}");
        assert!(before.threads.is_some_and(|threads| threads >= 1.0), "{before:?}");
        let files: Vec<_> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let with_files = ProcessStats::read();
        // Other tests open and close files at the same time.
        assert!(with_files.open_fds.unwrap() >= before.open_fds.unwrap() + 50.0, "{before:?} {with_files:?}");
        assert!(with_files.max_fds.unwrap() >= with_files.open_fds.unwrap(), "{with_files:?}");
        drop(files);
    }
}
