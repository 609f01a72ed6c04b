//! Envoy's external authorization, compared with a plain validation of the same key.

use std::sync::Arc;

use prost::Message as _;
use tenant_auth_proto::envoy::{
    config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress, address},
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Peer, Request},
    },
};

use super::{
    CONNECTION_COUNT, Measurement, MissingFigures, Plan, SERVER_CORE, STREAMS_PER_CONNECTION, VALIDATE_KEY,
    format_median, format_ratio, is_valid,
};
use crate::{
    load::{Load, frame},
    service::Service,
    table,
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The headers of a request of a browser, next to its key.
const HEADERS: [(&str, &str); 14] = [
    (":authority", "api.example.com"),
    (":path", "/v1/orders?status=open&limit=50"),
    (":method", "GET"),
    (":scheme", "https"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("origin", "https://app.example.com"),
    ("referer", "https://app.example.com/orders"),
    ("sec-fetch-mode", "cors"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-request-id", "2f1c8a9e-6f0d-4b1e-9a44-0d6d1f2b7c55"),
];

/// Measures both with one key.
pub(super) async fn run(plan: &Plan, missing: &mut MissingFigures) -> anyhow::Result<()> {
    let service = Service::start(&plan.programs.service, Some(SERVER_CORE), 1).await?;
    let key = service.keys.first().map(String::as_str).unwrap_or_default();
    let check: Arc<[_]> = Arc::new([frame(&check_request(key))]);
    let subjects = [
        ("ValidateKey, one key", VALIDATE_KEY, service.requests(), is_valid as fn(&[u8]) -> bool),
        ("Check (ext_authz), the same key", CHECK, check, is_admitted),
    ];
    let mut measured: [Measurement; 2] = Default::default();
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
    let [plain, _] = &measured;
    let lines: Vec<_> = subjects
        .iter()
        .zip(&measured)
        .map(|((name, ..), this)| {
            let figures = vec![
                format_median(&this.rate, 0),
                this.core_used(),
                format_median(&this.cpu, 2),
                format_ratio(&this.rate, &plain.rate),
                format_ratio(&plain.cpu, &this.cpu),
            ];
            this.table_row(name, figures)
        })
        .collect();
    let size = check_request(key).encoded_len();
    table::print(
        &format!("Front doors: a request of {size} bytes with {} headers", HEADERS.len() + 1),
        &["request", "requests/s", "core used", "µs CPU/request", "rate/plain", "plain/CPU", "rounds"],
        &lines,
    );
    missing.report(subjects.iter().zip(&measured).map(|((name, ..), this)| (*name, &this.tally)));
    Ok(())
}

fn check_request(key: &str) -> CheckRequest {
    let authorization = format!("Bearer {key}");
    let all = HEADERS.into_iter().chain([("authorization", authorization.as_str())]);
    let header = |(name, value): (&str, &str)| HeaderValue {
        key: name.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        method: "GET".to_owned(),
        path: "/v1/orders?status=open&limit=50".to_owned(),
        header_map: Some(HeaderMap { headers: all.map(header).collect() }),
        ..HttpRequest::default()
    };
    let socket = SocketAddress { address: "203.0.113.7".to_owned(), ..SocketAddress::default() };
    let settings = [("scopes", "orders:read")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(Peer {
                address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
            }),
            request: Some(Request { http: Some(http) }),
            context_extensions: settings.into(),
        }),
    }
}

fn is_admitted(message: &[u8]) -> bool {
    CheckResponse::decode(message)
        .is_ok_and(|response| response.status.is_some_and(|status| status.code == 0))
}
