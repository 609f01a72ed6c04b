//! Measures which processes used a core during a measurement, from the scheduler's accounting.
//!
//! `schedstat` of a thread has the time for which it ran, and the time for which it was runnable and waited
//! for the core, in nanoseconds. `/proc/stat` has the time that all processes used of the core, and the time
//! that the hypervisor took from it (steal), in ticks of 10 ms. A thread is charged for stolen time as if it
//! had run, so neither source is sufficient.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Length of a tick of `/proc/stat`: Linux reports 100 per second to user space, whatever its internal
/// frequency (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Accumulated scheduler times of the threads of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessTime {
    /// Running time, of all threads together.
    pub running: Duration,
    /// The time for which the thread that ran longest was runnable and waited for the core. The other threads
    /// also wait for this thread, which is not interference from other processes.
    pub waiting: Duration,
}

/// Accumulated times of a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// Time spent on processes and in the kernel.
    pub busy: Duration,
    /// Time that the hypervisor gave to other machines.
    pub stolen: Duration,
}

/// One sample of the accounting.
#[derive(Clone, Copy, Debug)]
pub struct CpuSample {
    at: Instant,
    process: ProcessTime,
    core: CoreTime,
}

/// Shares of a core between two samples, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuShares {
    /// Used by the measured process.
    pub used: f64,
    /// Used by other processes and by interrupts.
    pub others: f64,
    /// The measured process was runnable while another process ran.
    pub waited: f64,
    /// Given to other machines by the hypervisor.
    pub stolen: f64,
}

impl CpuSample {
    /// Samples the accounting of a process and of its core.
    ///
    /// # Errors
    /// Fails without a `/proc` that has `schedstat` and `stat`.
    pub fn sample(process: u32, core: usize) -> anyhow::Result<Self> {
        let done = parse_core_time(&fs::read_to_string("/proc/stat")?, core)
            .with_context(|| format!("/proc/stat has no line of cpu{core}"))?;
        Ok(Self { at: Instant::now(), process: process_time(process)?, core: done })
    }

    /// Returns the CPU time of the process since an earlier sample.
    #[must_use]
    pub fn cpu_time_since(&self, earlier: &Self) -> Duration {
        self.process.running.saturating_sub(earlier.process.running)
    }

    /// Returns the shares since an earlier sample.
    #[must_use]
    pub fn shares_since(&self, earlier: &Self) -> CpuShares {
        let took = (self.at - earlier.at).as_secs_f64();
        let share = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / took;
        let used = share(self.process.running, earlier.process.running);
        let busy = share(self.core.busy, earlier.core.busy);
        CpuShares {
            used,
            // Clamped at zero: ticks are coarse, and stolen time is also charged to the process.
            others: (busy - used).max(0.0),
            waited: share(self.process.waiting, earlier.process.waiting),
            stolen: share(self.core.stolen, earlier.core.stolen),
        }
    }
}

/// Returns the accumulated scheduler times of a process.
///
/// # Errors
/// Fails without a `/proc` that has `schedstat`.
pub fn process_time(process: u32) -> anyhow::Result<ProcessTime> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may exit in between.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        threads.push(
            parse_schedstat(&text).with_context(|| format!("unexpected contents of schedstat: {text}"))?,
        );
    }
    Ok(sum_threads(&threads))
}

fn sum_threads(threads: &[ProcessTime]) -> ProcessTime {
    let ran = threads.iter().map(|thread| thread.running).sum();
    let longest = threads.iter().max_by_key(|thread| thread.running);
    ProcessTime { running: ran, waiting: longest.map(|thread| thread.waiting).unwrap_or_default() }
}

/// "ran waited slices", in nanoseconds.
fn parse_schedstat(schedstat: &str) -> Option<ProcessTime> {
    let mut numbers = schedstat.split_whitespace().map(|number| number.parse().map(Duration::from_nanos));
    Some(ProcessTime { running: numbers.next()?.ok()?, waiting: numbers.next()?.ok()? })
}

/// "cpu0 user nice system idle iowait irq softirq steal guest guest_nice", in ticks; user and nice already
/// include the guest times.
fn parse_core_time(stat: &str, core: usize) -> Option<CoreTime> {
    let name = format!("cpu{core}");
    let mut line = stat.lines().map(str::split_whitespace).find(|line| line.clone().next() == Some(&name))?;
    line.next();
    let ticks: Vec<u32> = line.map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    Some(CoreTime { busy: TICK * (user + nice + system + irq + softirq), stolen: TICK * *steal })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a machine with two cores.
    const STAT: &str = "cpu  149559 11921 31275 19081 826 0 486 2132 0 0\n\
        cpu0 75431 5719 14360 10962 153 7 40 982 0 0\n\
        cpu1 74127 6202 16915 8119 673 0 445 1149 0 0\n\
        intr 1542165 0 0\nctxt 3141592\nbtime 1795245600\n";

    #[test]
    fn core_line_is_found_by_name() {
        let zero = parse_core_time(STAT, 0).unwrap();
        assert_eq!((zero.busy, zero.stolen), (TICK * (75_431 + 5_719 + 14_360 + 7 + 40), TICK * 982));
        assert_eq!(parse_core_time(STAT, 1).unwrap().stolen, TICK * 1_149);
        assert_eq!(parse_core_time(STAT, 12), None);
        assert_eq!(parse_core_time("cpu0 1 2 3\n", 0), None, "a kernel without steal");
    }

    #[test]
    fn process_waiting_is_that_of_the_busiest_thread() {
        let threads = ["95789 1000 1\n", "2940000000 60000000 812\n", "0 0 0\n"]
            .map(|text| parse_schedstat(text).unwrap());
        let had = sum_threads(&threads);
        assert_eq!(
            had,
            ProcessTime { running: Duration::from_nanos(2_940_095_789), waiting: Duration::from_millis(60) }
        );
        assert_eq!(sum_threads(&[]), ProcessTime::default());
        assert_eq!((parse_schedstat(""), parse_schedstat("1 x 3")), (None, None));
    }

    #[test]
    fn shares_are_of_the_time_between_two_samples() {
        let at = Instant::now();
        let first = CpuSample { at, process: ProcessTime::default(), core: CoreTime::default() };
        let seconds = Duration::from_secs_f64;
        let second = CpuSample {
            at: at + seconds(2.0),
            process: ProcessTime { running: seconds(0.62), waiting: seconds(1.3) },
            core: CoreTime { busy: seconds(1.9), stolen: seconds(0.1) },
        };
        let shares = second.shares_since(&first);
        let near = |share: f64, expected: f64| assert!((share - expected).abs() < 1e-9, "{shares:?}");
        near(shares.used, 0.31);
        near(shares.others, 0.64);
        near(shares.waited, 0.65);
        near(shares.stolen, 0.05);
        let charged =
            CpuSample { process: ProcessTime { running: seconds(1.98), ..second.process }, ..second };
        assert!(charged.shares_since(&first).others == 0.0);
    }

    #[test]
    fn cpu_sample_can_be_read_on_this_machine() {
        let own_sample = CpuSample::sample(std::process::id(), 0).unwrap();
        assert!(own_sample.process.running > Duration::ZERO && own_sample.core.busy > Duration::ZERO);
    }
}
