//! However requests are split, repeated, mixed and interrupted, totals are the sums of the distinct accepted
//! events.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};
use tenant_auth_testkit::Fault;
use tokio::runtime::Runtime;

use crate::harness::{
    TestDatabase, TestService,
    usage::{USAGE_WRITE, record_usage, usage_event, usage_total},
};

const METRICS: [&str; 3] = ["calls", "tokens", "Not.A.Metric"];

/// Metric and quantity of each event of one request.
type RequestEvents = Vec<(usize, i64)>;

/// Generates requests, and the rounds in which they are sent: the requests of each round and its fault.
fn usage_plans() -> impl Strategy<Value = (Vec<RequestEvents>, Vec<(Vec<usize>, u8)>)> {
    let requests = vec(vec((0..METRICS.len(), -5..1_000_i64), 1..8), 1..8);
    requests.prop_flat_map(|requests| {
        let rounds = vec((vec(0..requests.len(), 1..8), 0..4_u8), 1..6);
        (Just(requests), rounds)
    })
}

async fn run_plan(
    database: &TestDatabase,
    service: &Arc<TestService>,
    (requests, rounds): (Vec<RequestEvents>, Vec<(Vec<usize>, u8)>),
) -> Result<(), TestCaseError> {
    let tenant = service.create_tenant("Acme").await;
    let send = |index: usize| {
        let (service, tenant, events) = (Arc::clone(service), tenant.clone(), requests[index].clone());
        let events = events
            .iter()
            .map(|(metric, quantity)| usage_event(&tenant, METRICS[*metric], *quantity, None))
            .collect();
        let id = format!("{tenant}-{index}");
        tokio::spawn(
            async move { record_usage(&service, &id, events).await.map(|response| (index, response)) },
        )
    };
    let mut acknowledged = BTreeMap::new();
    for (together, fault) in rounds {
        match fault {
            1 => database.server().faults().set_where(USAGE_WRITE, 1, Fault::ResetAfterCommit),
            2 => database.server().faults().set_where(USAGE_WRITE, 2, Fault::ResetAfterCommit),
            3 => database.server().faults().set_where(USAGE_WRITE, 1, Fault::ResetBeforeExecute),
            _ => database.server().faults().clear(),
        }
        let tasks: Vec<_> = together.into_iter().map(send).collect();
        for task in tasks {
            // Requests without a response are repeated below.
            if let Ok((index, response)) = task.await.unwrap() {
                let outcome = (response.accepted, response.rejected);
                let before = acknowledged.insert(index, outcome.clone());
                prop_assert!(before.is_none_or(|before| before == outcome), "one request, two answers");
            }
        }
    }
    database.server().faults().clear();
    for (index, events) in requests.iter().enumerate() {
        let (_, response) = send(index).await.unwrap().unwrap();
        let counts = events.iter().filter(|(metric, quantity)| *metric < 2 && *quantity >= 0).count();
        prop_assert_eq!(usize::try_from(response.accepted).unwrap(), counts);
        if let Some(before) = acknowledged.get(&index) {
            prop_assert!(response.already_recorded);
            prop_assert_eq!(before, &(response.accepted, response.rejected));
        }
    }
    for (number, metric) in METRICS[..2].iter().enumerate() {
        let distinct: i64 = requests
            .iter()
            .flatten()
            .filter(|(metric, _)| *metric == number)
            .map(|(_, quantity)| (*quantity).max(0))
            .sum();
        prop_assert_eq!(usage_total(service, &tenant, metric).await, distinct);
    }
    Ok(())
}

#[test]
fn usage_sums_equal_distinct_accepted_events() {
    let runtime = Runtime::new().unwrap();
    let (database, service) = runtime.block_on(async {
        let database = TestDatabase::test_server().await;
        let service = Arc::new(TestService::start(&database).await);
        (database, service)
    });
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(plan in usage_plans())| {
        runtime.block_on(run_plan(&database, &service, plan))?;
    });
    runtime.block_on(async { drop(service) });
}
