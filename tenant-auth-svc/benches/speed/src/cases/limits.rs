//! Decisions of limits from a lease, compared with validations of the same key.

pub(super) mod writers;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, limit_service_client::LimitServiceClient,
};

use super::{
    CONNECTION_COUNT, CONSUME, Measurement, MissingFigures, Plan, SERVER_CORE, STREAMS_PER_CONNECTION,
    VALIDATE_KEY, format_median, format_ratio, is_valid,
};
use crate::{
    load::{Load, frame},
    service::{Service, connect_when_ready},
    table,
};

/// The largest quota: the load of all rounds does not use it up.
const AMOUNT: i64 = 1_000_000_000_000;

pub(super) async fn run(plan: &Plan, missing: &mut MissingFigures) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), 1).await?;
    let channel = connect_when_ready(&service.process).await?;
    let mut admin = AdminServiceClient::new(channel.clone());
    for (name, metric) in
        [("requests.daily", "requests"), ("tokens.daily", "tokens"), ("tokens.monthly", "tokens")]
    {
        let window =
            if name.ends_with("monthly") { v1::CalendarWindow::Month } else { v1::CalendarWindow::Day };
        admin
            .set_limit(v1::SetLimitRequest {
                limit: Some(limit_of_plan(name, metric, AMOUNT, window)),
                expected_version: None,
            })
            .await?;
    }
    let key = service.keys.first().map(String::as_str).unwrap_or_default();
    let (one, three) = (consume_request(key, &["requests"]), consume_request(key, &["requests", "tokens"]));
    let mut limits = LimitServiceClient::new(channel);
    for request in [&one, &three] {
        let response = limits.consume(request.clone()).await?.into_inner();
        anyhow::ensure!(response.verdict() == v1::Verdict::Valid, "{response:?}");
    }
    let subjects = [
        ("ValidateKey", VALIDATE_KEY, service.requests(), is_valid as fn(&[u8]) -> bool),
        ("Consume, one limit", CONSUME, bodies(&one), is_taken),
        ("Consume, three limits", CONSUME, bodies(&three), is_taken),
    ];
    let mut measured: [Measurement; 3] = Default::default();
    for round in 0..=plan.rounds {
        for ((_, path, bodies, expect), measured) in subjects.iter().zip(&mut measured) {
            let load = Load {
                address: service.process.address,
                path,
                bodies: bodies.clone(),
                connections: CONNECTION_COUNT,
                streams: STREAMS_PER_CONNECTION,
                is_expected: *expect,
            };
            // The first round is a warm-up.
            if round == 0 {
                load.run_closed_loop(plan.time)?;
            } else {
                measured.measure_round(&service.process, || load.run_closed_loop(plan.time))?;
            }
        }
    }
    let [validation, ..] = &measured;
    let row = |((name, ..), this): (&(&str, _, _, _), &Measurement)| {
        let figures = vec![
            format_median(&this.rate, 0),
            this.core_used(),
            format_median(&this.cpu, 2),
            format_ratio(&this.rate, &validation.rate),
        ];
        this.table_row(name, figures)
    };
    let lines: Vec<_> = subjects.iter().zip(&measured).map(row).collect();
    table::print(
        "Decisions of limits from a lease, for the key of ValidateKey",
        &["RPC", "requests/s", "core used", "µs CPU/request", "rate/ValidateKey", "rounds"],
        &lines,
    );
    missing.report(subjects.iter().zip(&measured).map(|((name, ..), this)| (*name, &this.tally)));
    Ok(())
}

fn limit_of_plan(name: &str, metric: &str, amount: i64, window: v1::CalendarWindow) -> v1::Limit {
    let plan = v1::limit_subject::Subject::Plan("enterprise".to_owned());
    let window = v1::quota::Window::Calendar(window.into());
    v1::Limit {
        subject: Some(v1::LimitSubject { subject: Some(plan) }),
        name: name.to_owned(),
        metric: metric.to_owned(),
        rule: Some(v1::limit::Rule::Quota(v1::Quota { amount, window: Some(window) })),
        on_outage: v1::OutagePolicy::Closed.into(),
        ..Default::default()
    }
}

fn consume_request(key: &str, metrics: &[&str]) -> v1::ConsumeRequest {
    let key = v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: vec!["orders:read".to_owned()],
        ..Default::default()
    };
    let credential = v1::limit_credential::Credential::Key(key);
    v1::ConsumeRequest {
        credential: Some(v1::LimitCredential { credential: Some(credential) }),
        costs: metrics.iter().map(|metric| v1::Cost { metric: (*metric).to_owned(), amount: 1 }).collect(),
        consume_id: String::new(),
    }
}

fn bodies(request: &v1::ConsumeRequest) -> Arc<[Bytes]> {
    Arc::new([frame(request)])
}

fn is_taken(message: &[u8]) -> bool {
    v1::ConsumeResponse::decode(message).is_ok_and(|response| response.verdict() == v1::Verdict::Valid)
}
