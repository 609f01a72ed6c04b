//! Whether a round may count: a figure that was measured while the core belonged to somebody else is one about somebody else.

use crate::cpu_accounting::CpuShares;

/// The most of a core that may be lost in a round of a closed loop. What is lost is missing from the rate in the same proportion.
/// Rounds of a quiet machine differ by a few percent anyway, and kernel threads and the clock's interrupts take 1 to 2 %: with less
/// than this, such a machine would fail; with more, the loss would be larger than the differences that are looked for.
const MAX_LOST_SHARE: f64 = 0.05;
/// The least of a core that the server has to use in a closed loop for the figure to be the server's, and not the load's. Of the rest,
/// [`MAX_LOST_SHARE`] may be others'; a server that idles for 2 % more is one that waits for the load.
const MIN_USED_SHARE: f64 = 0.93;
/// The most that may be lost while latencies are measured. A p99 is about one request in a hundred: losing a hundredth of the time
/// makes it the scheduler's.
const MAX_LOST_SHARE_IN_LATENCY: f64 = 0.01;
/// How often a round is measured anew, at most. What disturbs for as long as four rounds does so for the whole run.
pub const MAX_REPEATS: usize = 3;

/// What a round wants of the server's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreRequirement {
    /// All of it: the server is asked as fast as it answers.
    Saturated,
    /// That nobody else has it: how fast somebody else's load generator asks is not for us to say.
    Exclusive,
    /// That it is free at the moment when it is wanted: latencies are measured.
    Immediate,
}

/// Why a round does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flaw {
    /// The core was not the server's: this share of it was lost.
    CoreShared(f64),
    /// It was, but the server used only this share: the load was the bottleneck, most likely because its own core was not its own.
    NotSaturated(f64),
    /// The load did not have its own core at once, so that it measured its own delays: it waited for this share of the time.
    LoadDelayed(f64),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CoreShared(share) => {
                write!(f, "{:.0} % of the server's core went elsewhere", share * 100.0)
            }
            Self::NotSaturated(share) => {
                write!(f, "the server used {:.0} % of its core: the load was too slow", share * 100.0)
            }
            Self::LoadDelayed(share) => {
                write!(f, "the load waited for its own core for {:.0} % of the time", share * 100.0)
            }
        }
    }
}

/// The share of the core that was lost. Others on the core and waiting for them are the same time, seen from two sides: the larger one
/// counts, since waiting misses what happens while the server sleeps, and the ticks of others are coarse.
#[must_use]
pub fn lost_share(shares: &CpuShares) -> f64 {
    shares.waited.max(shares.others) + shares.stolen
}

/// Says why a round does not count, if it does not.
#[must_use]
pub fn find_flaw(shares: &CpuShares, wants: CoreRequirement) -> Option<Flaw> {
    let lost = match wants {
        // The server sleeps between requests, and what others do meanwhile costs it nothing.
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

/// The flaw of a round whose load itself was judged: what it lost is its own core.
#[must_use]
pub fn find_load_flaw(shares: &CpuShares) -> Option<Flaw> {
    find_flaw(shares, CoreRequirement::Immediate).map(|_| Flaw::LoadDelayed(shares.waited + shares.stolen))
}

/// How the rounds of a row went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundCounts {
    /// Rounds that count.
    pub counted: usize,
    /// Rounds that were left out, because all repeats had flaws.
    pub excluded: usize,
    /// Times that a round was measured anew.
    pub repeated: usize,
    /// The flaw of the last round that was left out.
    pub flaw: Option<Flaw>,
}

impl RoundCounts {
    /// Measures a round, and measures it anew while it has a flaw, up to [`MAX_REPEATS`] times. Gives what was measured, or `None` for a round
    /// that is to be left out.
    ///
    /// # Errors
    /// Those of the measuring.
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

    /// Whether there are enough rounds for a figure: more than half. The median of fewer would depend on which were left out.
    #[must_use]
    pub fn has_enough_rounds(&self) -> bool {
        self.counted > self.excluded
    }

    /// For a cell of a table: how many rounds count.
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

    /// By the tables of SPEED.md a server that has its core uses 96 to 99 % of it.
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
        // Recorded over 2 s each, on a machine with two cores and a load of 170: beside one loop of equal right; by a real-time policy,
        // which leaves a twentieth to others; and by none.
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
                assert!(
                    (lost - expected).abs() < 1e-9,
                    "the larger of the two sides, and what was stolen: {lost}"
                );
            }
        }
        // A thread is charged for what the hypervisor took.
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
        // Recorded: it slept for nearly half of the time, and others had the core only then.
        assert_eq!(find_flaw(&shares(0.564_5, 0.434, 0.000_02, 0.0), CoreRequirement::Immediate), None);
        assert!(find_flaw(&shares(0.47, 0.03, 0.02, 0.0), CoreRequirement::Immediate).is_some());
        assert!(find_flaw(&shares(0.47, 0.0, 0.0, 0.02), CoreRequirement::Immediate).is_some());
        assert_eq!(find_load_flaw(&shares(0.99, 0.0, 0.004, 0.0)), None);
        assert_eq!(find_load_flaw(&shares(0.60, 0.4, 0.39, 0.0)), Some(Flaw::LoadDelayed(0.39)));
    }

    /// Measures with these flaws, one after the other.
    fn measure_with_flaws(tally: &mut RoundCounts, flaws: &[Option<Flaw>]) -> Option<usize> {
        let mut flaws = flaws.iter().enumerate();
        let measured = tally.measure(|| {
            let (attempt, flaw) = flaws.next().expect("it asks too often");
            Ok((attempt, *flaw))
        });
        assert!(flaws.next().is_none(), "it asks too seldom");
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
        assert_eq!(Flaw::CoreShared(0.69).to_string(), "69 % of the server's core went elsewhere");
        assert_eq!(
            Flaw::NotSaturated(0.821).to_string(),
            "the server used 82 % of its core: the load was too slow"
        );
    }
}
