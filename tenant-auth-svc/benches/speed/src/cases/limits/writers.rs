//! Two writers on one limit: how many decisions a second, and how much is admitted.
//!
//! Beside it, in memory, the limitador library: two threads with one limiter, and two limiters as two processes have them. Its
//! shared storages need Redis or protoc, which a bare machine does not have.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use limitador::{
    RateLimiter,
    limit::{Context, Limit, Namespace},
};
use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    database::sql::SqlStore,
    domain::{
        cache_policy::UpstreamHealth,
        clock::{OptionalMillis, SystemClock},
        id::{KeyId, TenantId},
        key::KeyRecord,
        limit::{Cost, Costs, LimitEnforcer as _},
        network::AllowedNetworks,
        scope::ScopeSet,
        tenant::{TenantSnapshot, TenantStatus},
        usage::UsageMetric,
    },
    limit_leases::{LeaseExchanger, LimitLeases},
    server,
};

use super::limit_of_plan;
use crate::{
    cases::Plan,
    database::Database,
    service::{connect_when_ready, start_process},
    table,
};

/// The limit that the writers use up.
const AMOUNT: u64 = 1_000_000;
const WRITERS: usize = 2;
/// How long a writer tries again after it was denied: what the other one holds may be given back.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the writers of one limiter achieved.
struct Outcome {
    admitted: u64,
    /// Until the first denial.
    elapsed: Duration,
    database_requests: Option<u64>,
}

pub(in crate::cases) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let rows = [
        ("limitador, two threads with one limiter", limitador_with(1)?),
        ("limitador, two limiters in memory", limitador_with(WRITERS)?),
        ("tenant-auth, two replicas with one database", with_leases(plan).await?),
    ];
    let lines: Vec<_> = rows
        .into_iter()
        .map(|(name, outcome)| {
            let requests =
                outcome.database_requests.map_or_else(|| "-".to_owned(), |requests| requests.to_string());
            vec![
                name.to_owned(),
                format!("{:.0}", outcome.admitted as f64 / outcome.elapsed.as_secs_f64()),
                outcome.admitted.to_string(),
                format!("{:+.1} %", (outcome.admitted as f64 / AMOUNT as f64 - 1.0) * 100.0),
                requests,
            ]
        })
        .collect();
    table::print(
        &format!("Two writers use up a limit of {AMOUNT} a day, in process"),
        &["limiter", "decisions/s", "admitted", "over or under", "database requests"],
        &lines,
    );
    Ok(())
}

fn limitador_with(limiters: usize) -> anyhow::Result<Outcome> {
    let namespace = Namespace::from("bench");
    let limiters: Vec<_> = std::iter::repeat_with(|| {
        let limiter = RateLimiter::new(10);
        limiter.add_limit(Limit::new(namespace.clone(), AMOUNT, 86_400, Vec::new(), Vec::new()));
        limiter
    })
    .take(limiters)
    .collect();
    let context = Context::from(HashMap::<String, String>::new());
    let begun = Instant::now();
    let admitted = std::thread::scope(|scope| {
        let writers: Vec<_> = limiters
            .iter()
            .cycle()
            .take(WRITERS)
            .map(|limiter| {
                let (namespace, context) = (&namespace, &context);
                scope.spawn(move || {
                    let mut admitted = 0_u64;
                    while !limiter
                        .check_rate_limited_and_update(namespace, context, 1)
                        .map_err(|error| anyhow::anyhow!("limitador: {error}"))?
                        .limited
                    {
                        admitted += 1;
                    }
                    Ok(admitted)
                })
            })
            .collect();
        let counts = writers
            .into_iter()
            .map(|writer| writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?);
        counts.sum::<anyhow::Result<u64>>()
    })?;
    Ok(Outcome { admitted, elapsed: begun.elapsed(), database_requests: None })
}

async fn with_leases(plan: &Plan) -> anyhow::Result<Outcome> {
    let database = Database::start()?;
    let (tenant, key) = create_limited_tenant(plan, &database.url).await?;
    let before = database.counters().requests;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WRITERS).enable_all().build()?;
    let url = database.url.clone();
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (url, record) = (url.clone(), record(&tenant, &key));
            runtime.spawn(async move { use_up(&url, &record?).await })
        })
        .collect();
    let (mut admitted, mut elapsed) = (0, Duration::ZERO);
    for writer in writers {
        let (of_writer, until_denied) = writer.await??;
        admitted += of_writer;
        elapsed = elapsed.max(until_denied);
    }
    runtime.shutdown_background();
    let database_requests = Some(database.counters().requests - before);
    Ok(Outcome { admitted, elapsed, database_requests })
}

/// Takes until nothing is left. Returns what was admitted, and the time until the first denial.
async fn use_up(url: &str, record: &KeyRecord) -> anyhow::Result<(u64, Duration)> {
    let clock = SystemClock::shared();
    let settings = Settings::default().with_flag("TENANT_AUTH_DATABASE_URL", Some(url.to_owned()));
    let config = ServiceConfig::read(settings)?.0;
    let client = server::build_database_client(config.database, &clock)?;
    let store = SqlStore::new(client, std::sync::Arc::default());
    let leases = LimitLeases::new(store, clock, Box::new(|_| UpstreamHealth::Healthy), 100);
    let mut exchanger = LeaseExchanger::start(leases.clone());
    let costs: Costs = [Cost { metric: UsageMetric::parse("requests")?, amount: 1 }].into_iter().collect();
    let begun = Instant::now();
    let (mut admitted, mut first_denial) = (0_u64, None);
    loop {
        let outcome = leases.take(record, &costs, Instant::now() + Duration::from_secs(10)).await?;
        if outcome.denial.is_none() {
            admitted += 1;
            // The exchange runs on the same threads.
            if admitted.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
            continue;
        }
        let since = *first_denial.get_or_insert_with(|| begun.elapsed());
        if begun.elapsed() >= since + PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    exchanger.drain(Duration::from_secs(2)).await;
    Ok((admitted, first_denial.unwrap_or_default()))
}

/// Creates a tenant with a key and a limit, by a service that has ended when this returns.
async fn create_limited_tenant(plan: &Plan, url: &str) -> anyhow::Result<(String, String)> {
    let process = start_process(&plan.programs.service, None, url, &[])?;
    let channel = connect_when_ready(&process).await?;
    let mut admin = AdminServiceClient::new(channel);
    let tenant = v1::CreateTenantRequest {
        name: "Acme Corporation".to_owned(),
        plan: "enterprise".to_owned(),
        ..Default::default()
    };
    let tenant = admin.create_tenant(tenant).await?.into_inner().tenant.context("no tenant")?.tenant_id;
    let key =
        v1::IssueKeyRequest { tenant_id: tenant.clone(), name: "bench".to_owned(), ..Default::default() };
    let key = admin.issue_key(key).await?.into_inner().key.context("no key")?.key_id;
    let amount = i64::try_from(AMOUNT)?;
    let limit = limit_of_plan("requests.daily", "requests", amount, v1::CalendarWindow::Day);
    admin.set_limit(v1::SetLimitRequest { limit: Some(limit), expected_version: None }).await?;
    Ok((tenant, key))
}

fn record(tenant: &str, key: &str) -> anyhow::Result<KeyRecord> {
    Ok(KeyRecord {
        key_id: KeyId::parse(key)?.into(),
        tenant: TenantSnapshot {
            id: TenantId::parse(tenant)?,
            name: "Acme Corporation".into(),
            plan: "enterprise".into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::EMPTY.into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: OptionalMillis::NONE,
        revoked_at: OptionalMillis::NONE,
        last_used_at: OptionalMillis::NONE,
        is_disabled: false,
    })
}
