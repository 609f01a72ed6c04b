//! To whom a core belonged while something was measured on it, by the scheduler's own books.
//!
//! `schedstat` of a thread says for how long it ran and for how long it could have run and waited for the core, in nanoseconds.
//! `/proc/stat` says what all processes used of the core and what the hypervisor took from it (steal), in ticks of 10 ms. A thread
//! is charged for stolen time as if it had run, so neither is enough.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Length of a tick of `/proc/stat`: Linux tells user space 100 a second, whatever it counts by itself (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What the threads of a process have had so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// For how long they ran, all together.
    pub ran: Duration,
    /// For how long the one that ran longest could have run and waited for the core. The others wait for that one, too, which is nobody
    /// else's doing.
    pub waited: Duration,
}

/// What a core has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// For how long it worked for processes, and for the kernel.
    pub busy: Duration,
    /// For how long the hypervisor gave it to others.
    pub stolen: Duration,
}

/// The books at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Books {
    at: Instant,
    had: Had,
    done: Done,
}

/// Shares of a core in the time between two looks at the books, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Used by the process that is measured.
    pub used: f64,
    /// Used by other processes and by interrupts.
    pub others: f64,
    /// In which the process could have run, and another one did.
    pub waited: f64,
    /// Given to others by the hypervisor.
    pub stolen: f64,
}

impl Books {
    /// Looks at those of a process and of its core.
    ///
    /// # Errors
    /// Where there is no `/proc` with `schedstat` and `stat`.
    pub fn of(process: u32, core: usize) -> anyhow::Result<Self> {
        let done = done(&fs::read_to_string("/proc/stat")?, core)
            .with_context(|| format!("/proc/stat has no line of cpu{core}"))?;
        Ok(Self { at: Instant::now(), had: had_by(process)?, done })
    }

    /// The processor time of the process since an earlier look.
    #[must_use]
    pub fn ran_since(&self, earlier: &Self) -> Duration {
        self.had.ran.saturating_sub(earlier.had.ran)
    }

    /// The shares since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Shares {
        let took = (self.at - earlier.at).as_secs_f64();
        let share = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / took;
        let used = share(self.had.ran, earlier.had.ran);
        let busy = share(self.done.busy, earlier.done.busy);
        Shares {
            used,
            // Never below nothing: the ticks are coarse, and stolen time is charged to the process as well.
            others: (busy - used).max(0.0),
            waited: share(self.had.waited, earlier.had.waited),
            stolen: share(self.done.stolen, earlier.done.stolen),
        }
    }
}

/// What the threads of a process have had.
///
/// # Errors
/// Where there is no `/proc` with `schedstat`.
pub fn had_by(process: u32) -> anyhow::Result<Had> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end in between.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        threads.push(thread_had(&text).with_context(|| format!("schedstat says something else: {text}"))?);
    }
    Ok(together(&threads))
}

fn together(threads: &[Had]) -> Had {
    let ran = threads.iter().map(|thread| thread.ran).sum();
    let longest = threads.iter().max_by_key(|thread| thread.ran);
    Had { ran, waited: longest.map(|thread| thread.waited).unwrap_or_default() }
}

/// "ran waited slices", in nanoseconds.
fn thread_had(schedstat: &str) -> Option<Had> {
    let mut numbers = schedstat.split_whitespace().map(|number| number.parse().map(Duration::from_nanos));
    Some(Had { ran: numbers.next()?.ok()?, waited: numbers.next()?.ok()? })
}

/// "cpu0 user nice system idle iowait irq softirq steal guest guest_nice", in ticks; guests are in user and nice already.
fn done(stat: &str, core: usize) -> Option<Done> {
    let name = format!("cpu{core}");
    let mut line = stat.lines().map(str::split_whitespace).find(|line| line.clone().next() == Some(&name))?;
    line.next();
    let ticks: Vec<u32> = line.map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    Some(Done { busy: TICK * (user + nice + system + irq + softirq), stolen: TICK * *steal })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a machine with two cores.
    const STAT: &str = "cpu  149559 11921 31275 19081 826 0 486 2132 0 0\n\
        cpu0 75431 5719 14360 10962 153 7 40 982 0 0\n\
        cpu1 74127 6202 16915 8119 673 0 445 1149 0 0\n\
        intr 1542165 0 0\nctxt 3141592\nbtime 1795245600\n";

    #[test]
    fn a_cores_line_is_read_by_its_name() {
        let zero = done(STAT, 0).unwrap();
        assert_eq!((zero.busy, zero.stolen), (TICK * (75_431 + 5_719 + 14_360 + 7 + 40), TICK * 982));
        assert_eq!(done(STAT, 1).unwrap().stolen, TICK * 1_149);
        assert_eq!(done(STAT, 12), None);
        assert_eq!(done("cpu0 1 2 3\n", 0), None, "a kernel without steal");
    }

    #[test]
    fn a_threads_waiting_is_that_of_the_one_that_ran_most() {
        let threads =
            ["95789 1000 1\n", "2940000000 60000000 812\n", "0 0 0\n"].map(|text| thread_had(text).unwrap());
        let had = together(&threads);
        assert_eq!(had, Had { ran: Duration::from_nanos(2_940_095_789), waited: Duration::from_millis(60) });
        assert_eq!(together(&[]), Had::default());
        assert_eq!((thread_had(""), thread_had("1 x 3")), (None, None));
    }

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let at = Instant::now();
        let first = Books { at, had: Had::default(), done: Done::default() };
        let seconds = Duration::from_secs_f64;
        let second = Books {
            at: at + seconds(2.0),
            had: Had { ran: seconds(0.62), waited: seconds(1.3) },
            done: Done { busy: seconds(1.9), stolen: seconds(0.1) },
        };
        let shares = second.since(&first);
        let near = |share: f64, expected: f64| assert!((share - expected).abs() < 1e-9, "{shares:?}");
        near(shares.used, 0.31);
        near(shares.others, 0.64);
        near(shares.waited, 0.65);
        near(shares.stolen, 0.05);
        let charged = Books { had: Had { ran: seconds(1.98), ..second.had }, ..second };
        assert!(charged.since(&first).others == 0.0);
    }

    #[test]
    fn this_machine_keeps_such_books() {
        let books = Books::of(std::process::id(), 0).unwrap();
        assert!(books.had.ran > Duration::ZERO && books.done.busy > Duration::ZERO);
    }
}
