//! Memory of ten thousand connections, and of a Watch on each; and when each of them has a change.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, watch_response::Event,
    watch_service_client::WatchServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Streaming, transport::Channel};

use super::{Plan, SERVER_CORE};
use crate::{
    database::Database,
    service::{connect_when_ready, create_keys, start_process},
    table,
};

const CONNECTIONS: usize = 10_000;
/// How many are opened at once.
const AT_ONCE: usize = 100;
/// How long memory may settle before it is read.
const SETTLING: Duration = Duration::from_secs(3);

type Watch = Streaming<v1::WatchResponse>;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let database = Database::start()?;
    // One caller holds all of them.
    let limits = [
        ("TENANT_AUTH_MAX_CONNECTIONS", "10100"),
        ("TENANT_AUTH_MAX_STREAMS", "10100"),
        ("TENANT_AUTH_CALLER_SHARE", "100"),
    ];
    let service = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &limits)?;
    let channel = connect_when_ready(&service).await?;
    create_keys(&channel, 1).await?;
    let mut admin = AdminServiceClient::new(channel);
    let resident = async || {
        tokio::time::sleep(SETTLING).await;
        service.resident_bytes()
    };
    let idle = resident().await?;
    let url = format!("http://{}", service.address);
    let channels = in_turn((0..CONNECTIONS).map(|_| url.clone()), |url| async move {
        Ok(Channel::from_shared(url)?.connect().await?)
    })
    .await?;
    let connected = resident().await?;
    let watches = in_turn(channels, open_watch).await?;
    let watched = resident().await?;
    let begun = Instant::now();
    let tenant = v1::CreateTenantRequest { name: "News".to_owned(), ..Default::default() };
    let id = admin.create_tenant(tenant).await?.into_inner().tenant.context("no tenant")?.tenant_id;
    let committed = begun.elapsed();
    let mut seen = Histogram::<u64>::new(3)?;
    let mut waiting: JoinSet<_> = watches.into_iter().map(|watch| until_seen(watch, id.clone())).collect();
    let mut open = Vec::new();
    while let Some(watch) = waiting.join_next().await {
        let (watch, at) = watch??;
        seen.record(u64::try_from((at - begun).as_millis())?)?;
        open.push(watch);
    }
    let after_change = resident().await?;
    let kib = |bytes: u64| format!("{:.1} KiB", bytes as f64 / CONNECTIONS as f64 / 1024.0);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    table::print(
        &format!("{CONNECTIONS} connections and as many Watch streams"),
        &["what", "resident memory", "each"],
        &[
            vec!["idle".to_owned(), mib(idle), String::new()],
            vec!["with the connections".to_owned(), mib(connected), kib(connected.saturating_sub(idle))],
            vec!["… and a Watch on each".to_owned(), mib(watched), kib(watched.saturating_sub(connected))],
            vec![format!("… after a change was sent to {}", open.len()), mib(after_change), String::new()],
        ],
    );
    table::print_text(&format!(
        "the change was committed after {} ms; half had it after {} ms, 99 % after {} ms, the last after {} ms",
        committed.as_millis(),
        seen.value_at_quantile(0.5),
        seen.value_at_quantile(0.99),
        seen.max()
    ));
    Ok(())
}

/// Runs an operation for each item, a hundred at once.
async fn in_turn<I: Send + 'static, T: Send + 'static, F>(
    items: impl IntoIterator<Item = I>,
    operation: impl Fn(I) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for item in items {
        running.spawn(operation(item));
        if running.len() == AT_ONCE {
            done.extend(running.join_next().await.transpose()?.transpose()?);
        }
    }
    while let Some(outcome) = running.join_next().await {
        done.push(outcome??);
    }
    Ok(done)
}

/// Opens a Watch, and waits for its first message.
async fn open_watch(channel: Channel) -> anyhow::Result<(Channel, Watch)> {
    let request = v1::WatchRequest::default();
    let mut watch = WatchServiceClient::new(channel.clone()).watch(request).await?.into_inner();
    watch.message().await?.context("the stream ended")?;
    Ok((channel, watch))
}

/// Waits until a stream has the change of a tenant.
async fn until_seen(
    (channel, mut watch): (Channel, Watch),
    tenant: String,
) -> anyhow::Result<((Channel, Watch), Instant)> {
    while let Some(message) = watch.message().await? {
        if matches!(message.event, Some(Event::Invalidation(change)) if change.tenant_id == tenant) {
            return Ok(((channel, watch), Instant::now()));
        }
    }
    anyhow::bail!("the stream ended before the change")
}
