//! An oracle that detects nothing would be useless.

use crate::{
    client_log::{Call, Entry, Outcome, ReservationEnd},
    oracle::Evidence,
    population::Kind,
    run::{Plan, run},
};

/// Returns an admitted request of a tenant that has only a limit of this kind.
fn admitted_of(evidence: &Evidence, kind: Kind, is_meant: impl Fn(&Entry) -> bool) -> Entry {
    let found = evidence.entries.iter().find(|entry| {
        let limits = &evidence.tenants[entry.tenant].limits;
        matches!(&limits[..], [only] if only.kind == kind)
            && matches!(entry.outcome, Outcome::Admitted(_))
            && is_meant(entry)
    });
    found.expect("such a request").clone()
}

/// Checks that the evidence has errors that contain a text.
fn assert_detected(evidence: &Evidence, text: &str) {
    let errors = evidence.check().errors;
    assert!(errors.iter().any(|error| error.contains(text)), "{text:?} is not among {errors:#?}");
}

#[tokio::test]
async fn oracle_detects_what_is_exceeded_repeated_and_lost() {
    let (evidence, _) = run(Plan { kills: 0, pauses: 0, seed: 1 }).await;
    assert_eq!(evidence.check().errors, [""; 0]);

    // More than the limit: in a window, in an interval, and faster than a rate.
    for (kind, text) in [
        (Kind::Hour, "admitted of"),
        (Kind::Day, "admitted of"),
        (Kind::Credits, "admitted of"),
        (Kind::Rolling, "more than allowed in an interval"),
        (Kind::Rate, "more than allowed in an interval"),
    ] {
        let entry = admitted_of(&evidence, kind, |entry| entry.call == Call::Consume);
        let limit = evidence.tenants[entry.tenant].limits[0].amount;
        let mut doctored = evidence.clone();
        // All of the limit and the burst within the time of one request, and one request more.
        doctored.entries.extend((0..=2 * limit).map(|_| entry.clone()));
        assert_detected(&doctored, text);
    }

    // One request more than was counted.
    let entry = admitted_of(&evidence, Kind::Hour, |entry| entry.call == Call::Consume);
    let mut doctored = evidence.clone();
    doctored.entries.push(entry.clone());
    assert_detected(&doctored, "admitted, and less counted");

    // One id twice.
    let is_once = |entry: &Entry| matches!(entry.call, Call::ConsumeOnce(_));
    let mut doctored = evidence.clone();
    doctored.entries.push(admitted_of(&evidence, Kind::Hour, is_once));
    assert_detected(&doctored, "was admitted twice");

    // A counter that is lower than what was acknowledged, and one that is higher than what anybody took.
    let tenant = &evidence.tenants[entry.tenant];
    let counter = tenant.limits[0].counter(tenant);
    for (added, text) in [(-1, "admitted, and less counted"), (1, "counted without a known use")] {
        let mut doctored = evidence.clone();
        let windows = doctored.stored.counters.get_mut(&counter).expect("the counter");
        windows.values_mut().for_each(|window| window.counted += added);
        assert_detected(&doctored, text);
    }

    // A settlement that is stored otherwise, and an id that is not stored.
    let mut doctored = evidence.clone();
    let settled = doctored.entries.iter_mut().filter_map(|entry| entry.end.as_mut());
    let settled = settled.filter_map(|end| match end {
        ReservationEnd::Settled(_, limits) => limits.first_mut(),
        ReservationEnd::Cancelled(_) => None,
    });
    settled.into_iter().for_each(|(_, charged, _)| *charged += 1);
    assert_detected(&doctored, ": stored [");
    let mut doctored = evidence.clone();
    doctored.stored.consumed.clear();
    assert_detected(&doctored, "is not stored");
}
