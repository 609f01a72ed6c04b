//! Rolling windows and rates: what is certainly admitted within any interval.

use std::time::Duration;

use super::{Evidence, Figures, Findings, accounts::Account};
use crate::population::{CounterId, Kind, ROLLING_SECONDS};

/// Rates are checked over intervals of up to this length.
const LONGEST: Duration = Duration::from_secs(90);

pub(super) fn check(evidence: &Evidence, (id, account): (&CounterId, &Account<'_>), findings: &mut Findings) {
    let limit = account.limit;
    let mut admissions: Vec<_> = account
        .admissions
        .iter()
        .map(|one| (evidence.by_database(one.sent), evidence.by_database(one.ended), one.amount))
        .collect();
    admissions.sort_unstable();
    let most = match limit.kind {
        Kind::Rolling => {
            let length = Duration::from_secs(ROLLING_SECONDS.unsigned_abs());
            most_over(&admissions, |from| (from + length, Box::new(|_| limit.amount)))
        }
        Kind::Rate => most_over(&admissions, |from| {
            let allowed = move |at: Duration| {
                limit.burst() + ((at - from).as_secs_f64() * limit.amount as f64).floor() as i64
            };
            (from + LONGEST, Box::new(allowed))
        }),
        Kind::Hour | Kind::Day | Kind::Credits | Kind::RefilledCredits => return,
    };
    let of_rate = if limit.kind == Kind::Rate { limit.amount } else { 0 };
    findings.add(limit.kind, Figures { over_admitted: most.max(0), limit: of_rate, ..Figures::default() });
    findings.check(most <= 0, || format!("{id:?}: {most} more than allowed in an interval: {limit:?}"));
}

/// Returns by how much the admissions exceed what is allowed, at most, over all intervals that begin when one is sent. `interval`
/// returns the latest end, and what is allowed until a time.
fn most_over<'a>(
    admissions: &[(Duration, Duration, i64)],
    interval: impl Fn(Duration) -> (Duration, Box<dyn Fn(Duration) -> i64 + 'a>),
) -> i64 {
    let mut most = i64::MIN;
    for (index, (from, ..)) in admissions.iter().enumerate() {
        let (end, allowed) = interval(*from);
        let inside = admissions[index..].iter().take_while(|(sent, ..)| *sent < end);
        let mut inside: Vec<_> =
            inside.filter(|(_, ended, _)| *ended < end).map(|(_, ended, n)| (*ended, *n)).collect();
        inside.sort_unstable();
        let mut sum = 0;
        for (ended, amount) in inside {
            sum += amount;
            most = most.max(sum - allowed(ended));
        }
    }
    most
}
