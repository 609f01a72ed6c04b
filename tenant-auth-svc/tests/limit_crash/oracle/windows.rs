//! Quotas and credits: what is admitted in each window, and what the database has counted in it.

use std::collections::BTreeMap;

use super::{Evidence, Figures, Findings, accounts::Account, holdings::held_by_killed_replicas};
use crate::{
    cluster::JUMP,
    drain::Drained,
    population::{CounterId, Kind},
    stored::Window,
};

/// A bucket is this part of a rolling window.
const BUCKETS: i64 = 16;

pub(super) fn check(evidence: &Evidence, (id, account): (&CounterId, &Account<'_>), findings: &mut Findings) {
    let limit = account.limit;
    let none = BTreeMap::new();
    let windows = evidence.stored.counters.get(id).unwrap_or(&none);
    for (start, window) in windows {
        findings.check(window.leased == 0, || format!("{id:?} {start}: still leased: {window:?}"));
        findings.check(window.reserved == 0, || format!("{id:?} {start}: still reserved: {window:?}"));
    }
    let mut figures =
        Figures { counters: 1, unknown: account.unknown, admitted: account.total(), ..Figures::default() };
    if limit.kind == Kind::Rate {
        findings.add(limit.kind, figures);
        return;
    }
    let unaccounted = windows.values().map(|window| window.counted).sum::<i64>() - account.total();
    let bound = held_by_killed_replicas(&evidence.crashes, account);
    figures.windows = windows.len();
    (figures.unaccounted, figures.bound, figures.most_unaccounted) =
        (unaccounted, bound, (unaccounted, bound));
    for (start, window) in windows {
        let of_window = if limit.window_millis().is_some() { limit.amount } else { window.credited };
        figures.limit += of_window;
        let admitted = account.admitted.get(start).copied().unwrap_or_default();
        figures.over_admitted += (admitted - of_window).max(0);
        findings
            .check(admitted <= of_window, || format!("{id:?} {start}: {admitted} admitted of {of_window}"));
        check_window((id, *start), window, of_window, account, findings);
    }
    findings.add(limit.kind, figures);
    for start in account.admitted.keys().filter(|start| !windows.contains_key(start)) {
        findings.errors.push(format!("{id:?} {start}: the window is not stored"));
    }
    findings
        .check(unaccounted >= 0, || format!("{id:?}: {unaccounted} more counted than admitted: {account:?}"));
    findings.check(unaccounted <= bound + account.unknown, || {
        format!("{id:?}: {unaccounted} counted without a known use, at most {bound} + {}", account.unknown)
    });
    let stored_unaccounted: i64 = windows.values().map(|window| window.unaccounted).sum();
    findings.check(unaccounted <= stored_unaccounted + account.unknown, || {
        format!(
            "{id:?}: {unaccounted} counted without a known use, of which the database knows {stored_unaccounted}, unknown {}",
            account.unknown
        )
    });
    if limit.kind == Kind::Rolling {
        check_buckets(id, windows, limit.amount, findings);
    }
}

fn check_window(
    (id, start): (&CounterId, i64),
    window: &Window,
    limit: i64,
    account: &Account<'_>,
    findings: &mut Findings,
) {
    let admitted = account.admitted.get(&start).copied().unwrap_or_default();
    findings
        .check(window.counted <= limit, || format!("{id:?} {start}: counted more than {limit}: {window:?}"));
    findings.check(admitted <= window.counted, || {
        format!("{id:?} {start}: {admitted} admitted, and less counted: {window:?}")
    });
    let most = admitted + window.unaccounted + account.unknown + account.admitted_anywhere;
    findings.check(window.counted <= most, || {
        format!("{id:?} {start}: counted more than {most} that can be explained: {window:?}")
    });
}

/// The buckets that count at one time are those of one window and of one bucket more.
fn check_buckets(id: &CounterId, windows: &BTreeMap<i64, Window>, limit: i64, findings: &mut Findings) {
    let length = crate::population::ROLLING_SECONDS * 1_000 / BUCKETS;
    for start in windows.keys() {
        let counted: i64 =
            windows.range(start..&(start + (BUCKETS + 1) * length)).map(|(_, w)| w.counted).sum();
        findings.check(counted <= limit, || format!("{id:?} from {start}: counted {counted} of {limit}"));
    }
}

/// Of what was refused, nothing was left.
pub(super) fn check_drained(evidence: &Evidence, drained: &Drained, findings: &mut Findings) {
    let limit = evidence.spec_of(&drained.counter);
    let none = BTreeMap::new();
    let windows = evidence.stored_when_drained.counters.get(&drained.counter).unwrap_or(&none);
    let (counted, of_window) = match limit.kind {
        Kind::Rolling => {
            let jump = if evidence.jumped.is_some() { JUMP.as_millis() } else { 0 };
            let now = drained.asked_at + i64::try_from(jump).unwrap();
            let length = crate::population::ROLLING_SECONDS * 1_000;
            let since = now - length - length / BUCKETS;
            (windows.range(since..).map(|(_, window)| window.counted).sum(), limit.amount)
        }
        Kind::Hour | Kind::Day => {
            let window = drained.window_start.and_then(|start| windows.get(&start));
            (window.map_or(0, |window| window.counted), limit.amount)
        }
        Kind::Credits | Kind::RefilledCredits | Kind::Rate => {
            let window = windows.values().next();
            (window.map_or(0, |window| window.counted), window.map_or(0, |window| window.credited))
        }
    };
    findings.check(counted >= of_window, || {
        format!("{:?}: refused, and {counted} of {of_window} counted: {windows:?}", drained.counter)
    });
}
