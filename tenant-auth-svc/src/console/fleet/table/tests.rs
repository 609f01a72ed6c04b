use super::*;

fn described(change: impl FnOnce(&mut Description)) -> Result<Box<Description>, Silence> {
    let replica = v1::ReplicaState {
        applied_revision: 1_000,
        feed_age: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        lookups: LookupState::Healthy.into(),
        ..Default::default()
    };
    let info = v1::GetServerInfoResponse {
        version: "1.2.3".to_owned(),
        commit: "0123456789abcdef".to_owned(),
        schema_version: 20,
        uptime: Some(prost_types::Duration { seconds: 3_661, nanos: 0 }),
        replica: Some(replica),
        ..Default::default()
    };
    let mut description = Description { info, clock_offset: 12 };
    change(&mut description);
    Ok(Box::new(description))
}

fn state(description: &mut Description) -> &mut v1::ReplicaState {
    description.info.replica.as_mut().unwrap()
}

fn replicas(others: Vec<Result<Box<Description>, Silence>>) -> Vec<Replica> {
    let replica = |(place, answer)| Replica {
        address: format!("10.0.0.{place}:50051"),
        is_this: place == 0,
        answer,
        contact: None,
    };
    std::iter::once(described(|_| {})).chain(others).enumerate().map(replica).collect()
}

/// The table with this replica and another one.
fn table_with(change: impl FnOnce(&mut Description)) -> String {
    table(&replicas(vec![described(change)])).into_string()
}

#[test]
fn replicas_that_are_alike_have_no_mark() {
    let shown = table_with(|_| {});
    assert!(shown.starts_with("<p>2 replicas, all alike.</p>"), "{shown}");
    assert!(!shown.contains("tag bad"), "{shown}");
    assert!(shown.contains("<code title=\"0123456789abcdef\">01234567</code>"), "{shown}");
    assert!(shown.contains("<td>1 h</td><td>agrees</td>"), "{shown}");
}

#[test]
fn every_difference_is_marked() {
    let marked = |change: fn(&mut Description), mark: &str| {
        let shown = table_with(change);
        assert!(shown.starts_with("<p>2 replicas, 1 that should be looked at.</p>"), "{mark}: {shown}");
        assert_eq!(shown.matches("tag bad").count(), 1, "{mark}: {shown}");
        assert!(shown.contains(mark), "{mark}: {shown}");
    };
    marked(|other| other.info.version = "1.2.2".to_owned(), "1.2.2 <span class=\"tag bad\">differs");
    marked(
        |other| other.info.commit = "fedcba98".to_owned(),
        "fedcba98</code> <span class=\"tag bad\">differs",
    );
    marked(|other| other.info.schema_version = 19, "schema 19");
    marked(|other| state(other).applied_revision = 800, "800 <span class=\"tag bad\">behind");
    marked(
        |other| state(other).feed_age = Some(prost_types::Duration { seconds: 75, nanos: 0 }),
        "silent for 1 min 15 s",
    );
    marked(|other| state(other).lookups = LookupState::BreakerOpen.into(), "breaker open");
    marked(|other| other.clock_offset = -7_000, "7 s behind");
    marked(|other| other.clock_offset = 7_000, "7 s ahead");
}

#[test]
fn small_differences_are_those_of_every_day() {
    let shown = table_with(|other| {
        other.clock_offset = 5_000;
        state(other).applied_revision = 950;
    });
    assert!(shown.starts_with("<p>2 replicas, all alike.</p>"), "{shown}");
}

#[test]
fn replica_without_an_answer_has_the_reason_in_its_row() {
    let silent = || Err(Silence::Failed("no answer within 1 s".to_owned()));
    let shown = table(&replicas(vec![silent(), Err(Silence::Asked)])).into_string();
    assert!(shown.starts_with("<p>3 replicas, 1 without an answer. Some are being asked.</p>"), "{shown}");
    assert!(shown.contains("<span class=\"tag bad\">no answer</span> no answer within 1 s"), "{shown}");
    let alone = table(&replicas(Vec::new())).into_string();
    assert!(alone.starts_with("<p>Only this replica is known here: "), "{alone}");
}
