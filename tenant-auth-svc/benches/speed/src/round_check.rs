//! Decides whether a round counts: a figure measured while other processes used the core describes these
//! processes.

use crate::cpu_accounting::CpuShares;

/// Maximum share of a core that may be lost in a round of a closed loop. The rate drops by the same share.
/// Rounds of a quiet machine differ by a few percent anyway, and kernel threads and the clock's interrupts
/// take 1 to 2 %: with a lower limit, such a machine would fail; with a higher one, the loss would exceed the
/// differences to be measured.
const MAX_LOST_SHARE: f64 = 0.05;
/// Minimum share of a core that the server has to use in a closed loop, so that the server and not the load
/// generator is the bottleneck. Of the rest, other processes may use [`MAX_LOST_SHARE`]; a server that is
/// idle for 2 % more waits for the load generator.
const MIN_USED_SHARE: f64 = 0.93;
/// Maximum share that may be lost while latencies are measured. A p99 concerns one request in a hundred: if a
/// hundredth of the time is lost, it measures the scheduler.
const MAX_LOST_SHARE_IN_LATENCY: f64 = 0.01;
/// Maximum number of times that a round is repeated. A disturbance that lasts for four rounds usually lasts
/// for the whole run.
pub const MAX_REPEATS: usize = 3;

/// The share of the server's core that a round requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreRequirement {
    /// All of it: the load generator saturates the server.
    Saturated,
    /// No other process may use it. The share that the server uses is not checked, because another program
    /// generates the load.
    Exclusive,
    /// The core must be free at once, because latencies are measured.
    Immediate,
}

/// Why a round does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flaw {
    /// Other processes used this share of the core.
    CoreShared(f64),
    /// The server used only this share: the load generator was the bottleneck, most likely because other
    /// processes used its core.
    NotSaturated(f64),
    /// The load generator did not get its core at once, so it measured its own delays: it waited for this
    /// share of the time.
    LoadDelayed(f64),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CoreShared(share) => {
                write!(f, "other processes used {:.0} % of the server's core", share * 100.0)
            }
            Self::NotSaturated(share) => {
                write!(
                    f,
                    "the server used {:.0} % of its core: the load generator was too slow",
                    share * 100.0
                )
            }
            Self::LoadDelayed(share) => {
                write!(f, "the load generator waited for its own core for {:.0} % of the time", share * 100.0)
            }
        }
    }
}

/// Returns the share of the core that was lost. The time used by others and the time waited for them measure
/// the same from two sides. The larger one counts: waiting misses what runs while the server sleeps, and the
/// ticks of other processes are coarse.
#[must_use]
pub fn lost_share(shares: &CpuShares) -> f64 {
    shares.waited.max(shares.others) + shares.stolen
}

/// Returns why a round does not count, if it does not.
#[must_use]
pub fn find_flaw(shares: &CpuShares, wants: CoreRequirement) -> Option<Flaw> {
    let lost = match wants {
        // The server sleeps between requests, and other processes that run meanwhile do not slow it down.
        CoreRequirement::Immediate => shares.waited + shares.stolen,
        CoreRequirement::Saturated | CoreRequirement::Exclusive => lost_share(shares),
    };
    let most = if wants == CoreRequirement::Immediate { MAX_LOST_SHARE_IN_LATENCY } else { MAX_LOST_SHARE };
    if lost > most {
        Some(Flaw::CoreShared(lost))
    } else if wants == CoreRequirement::Saturated && shares.used < MIN_USED_SHARE {
        Some(Flaw::NotSaturated(shares.used))
    } else {
        None
    }
}

/// Returns the flaw of a round by the load generator's own core.
#[must_use]
pub fn find_load_flaw(shares: &CpuShares) -> Option<Flaw> {
    find_flaw(shares, CoreRequirement::Immediate).map(|_| Flaw::LoadDelayed(shares.waited + shares.stolen))
}

/// Counts the rounds of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundCounts {
    /// Rounds that count.
    pub counted: usize,
    /// Rounds that were excluded because all repeats had flaws.
    pub excluded: usize,
    /// Repeats of rounds.
    pub repeated: usize,
    /// The flaw of the last excluded round.
    pub flaw: Option<Flaw>,
}

impl RoundCounts {
    /// Measures a round, and repeats it while it has a flaw, up to [`MAX_REPEATS`] times. Returns the result,
    /// or `None` for an excluded round.
    ///
    /// # Errors
    /// Returns the errors of the measurement.
    pub fn measure<T>(
        &mut self,
        mut measure: impl FnMut() -> anyhow::Result<(T, Option<Flaw>)>,
    ) -> anyhow::Result<Option<T>> {
        for attempt in 0..=MAX_REPEATS {
            self.repeated += usize::from(attempt > 0);
            let (measured, flaw) = measure()?;
            let Some(flaw) = flaw else {
                self.counted += 1;
                return Ok(Some(measured));
            };
            self.flaw = Some(flaw);
        }
        self.excluded += 1;
        Ok(None)
    }

    /// Returns whether more than half of the rounds count. The median of fewer would depend on which were
    /// excluded.
    #[must_use]
    pub fn has_enough_rounds(&self) -> bool {
        self.counted > self.excluded
    }

    /// Returns the number of counted rounds for a table cell.
    #[must_use]
    pub fn summary(&self) -> String {
        let all = self.counted + self.excluded;
        match (self.excluded, self.repeated) {
            (0, 0) => format!("{all}"),
            (0, repeated) => format!("{all}, {repeated} repeated"),
            (_, repeated) => format!("{} of {all}, {repeated} repeated", self.counted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(used: f64, others: f64, waited: f64, stolen: f64) -> CpuShares {
        CpuShares { used, others, waited, stolen }
    }

    /// According to the tables of SPEED.md, a server with an exclusive core uses 96 to 99 % of it.
    #[test]
    fn round_on_an_exclusive_core_counts() {
        for quiet in [
            shares(0.981, 0.004, 0.007, 0.0),
            shares(0.967, 0.015, 0.012, 0.005),
            shares(0.993, 0.0, 0.002, 0.01),
        ] {
            assert_eq!(find_flaw(&quiet, CoreRequirement::Saturated), None, "{quiet:?}");
            assert_eq!(find_flaw(&quiet, CoreRequirement::Exclusive), None, "{quiet:?}");
        }
    }

    #[test]
    fn round_on_a_shared_core_is_flawed() {
        // Recorded over 2 s each, on a machine with two cores and a load of 170: next to one loop with the
        // same priority; with a real-time policy, which leaves a twentieth to others; and without one.
        let recorded = [
            (shares(0.477_7, 0.518_9, 0.490_4, 0.0), 0.518_9),
            (shares(0.948_9, 0.053_5, 0.050_1, 0.004_9), 0.058_4),
            (shares(0.015_4, 0.983_2, 0.656_9, 0.002_1), 0.985_3),
            (shares(0.004_6, 0.995_4, 1.013_8, 0.0), 1.013_8),
        ];
        for (shares, expected) in recorded {
            for wants in [CoreRequirement::Saturated, CoreRequirement::Exclusive] {
                let Some(Flaw::CoreShared(lost)) = find_flaw(&shares, wants) else {
                    panic!("{shares:?} counts")
                };
                assert!((lost - expected).abs() < 1e-9, "the larger of the two, plus stolen time: {lost}");
            }
        }
        // A thread is charged for the time that the hypervisor took.
        let stolen = shares(0.985, 0.0, 0.002, 0.08);
        assert!(matches!(find_flaw(&stolen, CoreRequirement::Saturated), Some(Flaw::CoreShared(_))));
    }

    #[test]
    fn unsaturated_server_flaws_a_rate_round() {
        let starved_load = shares(0.82, 0.01, 0.003, 0.0);
        assert_eq!(find_flaw(&starved_load, CoreRequirement::Saturated), Some(Flaw::NotSaturated(0.82)));
        assert_eq!(find_flaw(&starved_load, CoreRequirement::Exclusive), None);
    }

    #[test]
    fn latency_round_needs_the_core_immediately() {
        // Recorded: the server slept for almost half of the time, and other processes had the core only then.
        assert_eq!(find_flaw(&shares(0.564_5, 0.434, 0.000_02, 0.0), CoreRequirement::Immediate), None);
        assert!(find_flaw(&shares(0.47, 0.03, 0.02, 0.0), CoreRequirement::Immediate).is_some());
        assert!(find_flaw(&shares(0.47, 0.0, 0.0, 0.02), CoreRequirement::Immediate).is_some());
        assert_eq!(find_load_flaw(&shares(0.99, 0.0, 0.004, 0.0)), None);
        assert_eq!(find_load_flaw(&shares(0.60, 0.4, 0.39, 0.0)), Some(Flaw::LoadDelayed(0.39)));
    }

    /// Measures with the given flaws, one after the other.
    fn measure_with_flaws(tally: &mut RoundCounts, flaws: &[Option<Flaw>]) -> Option<usize> {
        let mut flaws = flaws.iter().enumerate();
        let measured = tally.measure(|| {
            let (attempt, flaw) = flaws.next().expect("too many repeats");
            Ok((attempt, *flaw))
        });
        assert!(flaws.next().is_none(), "too few repeats");
        measured.unwrap()
    }

    #[test]
    fn flawed_round_is_repeated_then_excluded() {
        let bad = Some(Flaw::NotSaturated(0.3));
        let mut tally = RoundCounts::default();
        assert_eq!(measure_with_flaws(&mut tally, &[None]), Some(0));
        assert_eq!((tally.summary(), tally.has_enough_rounds()), ("1".to_owned(), true));
        assert_eq!(measure_with_flaws(&mut tally, &[bad, bad, None]), Some(2));
        assert_eq!(tally.summary(), "2, 2 repeated");
        assert_eq!(measure_with_flaws(&mut tally, &[bad; 1 + MAX_REPEATS]), None);
        assert_eq!((tally.summary(), tally.has_enough_rounds()), ("2 of 3, 5 repeated".to_owned(), true));
        assert_eq!(measure_with_flaws(&mut tally, &[bad; 1 + MAX_REPEATS]), None);
        assert!(!tally.has_enough_rounds(), "half is not more than half");
        assert_eq!(tally.flaw, bad);
        assert!(!RoundCounts::default().has_enough_rounds());
    }

    #[test]
    fn flaw_message_names_the_cause() {
        assert_eq!(Flaw::CoreShared(0.69).to_string(), "other processes used 69 % of the server's core");
        assert_eq!(
            Flaw::NotSaturated(0.821).to_string(),
            "the server used 82 % of its core: the load generator was too slow"
        );
    }
}
