//! The results as a table.

use std::time::Duration;

use crate::{
    client_log::{Call, Entry, Outcome, ReservationEnd},
    oracle::{Evidence, Findings},
    population::Kind,
    settings::print_uncaptured,
};

/// What was done to the processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Troubles {
    pub(crate) replica_kills: usize,
    pub(crate) database_kills: usize,
    pub(crate) mid_flight: usize,
    pub(crate) pauses: usize,
    /// How long the setup, the traffic and the end took.
    pub(crate) phases: [Duration; 3],
}

/// Prints one row for each kind of limit, and what clients did.
///
/// "limit": the sum over all windows. "unknown": what requests without an id would have taken whose response was lost.
/// "unaccounted": counted, and not known to be admitted; "bound": what killed replicas can have held at most. "worst": both for
/// the counter with the most.
pub(crate) fn print(evidence: &Evidence, findings: &Findings, troubles: Troubles) {
    print_uncaptured(
        "\nlimits            counters  windows  admitted     limit  over-admitted  unknown  unaccounted     bound  \
         worst (bound)\n",
    );
    for (kind, figures) in &findings.figures {
        let name = match kind {
            Kind::Hour => "per hour",
            Kind::Day => "per day",
            Kind::Rolling => "rolling, 1 min",
            Kind::Credits => "credits",
            Kind::RefilledCredits => "credits, refilled",
            Kind::Rate => "rate per second",
        };
        let (most, its_bound) = figures.most_unaccounted;
        print_uncaptured(&format!(
            "{name:<17} {:>8} {:>8} {:>9} {:>9} {:>14} {:>8} {:>12} {:>9}  {most} ({its_bound})\n",
            figures.counters,
            figures.windows,
            figures.admitted,
            figures.limit,
            figures.over_admitted,
            figures.unknown,
            figures.unaccounted,
            figures.bound,
        ));
    }
    let count =
        |is_meant: &dyn Fn(&Entry) -> bool| evidence.entries.iter().filter(|entry| is_meant(entry)).count();
    let reserved = |entry: &Entry| matches!(entry.call, Call::Reserve(_)) && entry.is_admitted();
    print_uncaptured(&format!(
        "\nkilled: {} replicas, {} times the database; {} kills during requests; {} pauses\n\
         requests: {} admitted, {} denied, {} undecided, {} lost without an id\n\
         with an id: {} sent more than once, {} had been taken before the answer, {} repeated after it\n\
         reservations: {} settled, {} cancelled, {} abandoned\n\
         setup {:.0?}, traffic {:.0?}, end {:.0?}\n",
        troubles.replica_kills,
        troubles.database_kills,
        troubles.mid_flight,
        troubles.pauses,
        count(&Entry::is_admitted),
        count(&|entry| matches!(entry.outcome, Outcome::Denied(..))),
        count(&|entry| entry.outcome == Outcome::NotTaken),
        count(&|entry| entry.outcome == Outcome::Unknown),
        count(&|entry| entry.attempts.len() > 1),
        count(&|entry| entry.outcome == Outcome::AlreadyTaken && !matches!(entry.call, Call::ConsumeAgain(_))),
        count(&|entry| matches!(entry.call, Call::ConsumeAgain(_))),
        count(&|entry| matches!(entry.end, Some(ReservationEnd::Settled(..)))),
        count(&|entry| matches!(entry.end, Some(ReservationEnd::Cancelled(_)))),
        count(&|entry| reserved(entry) && entry.end.is_none()),
        troubles.phases[0],
        troubles.phases[1],
        troubles.phases[2],
    ));
}
