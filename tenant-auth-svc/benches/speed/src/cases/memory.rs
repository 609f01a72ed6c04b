//! Memory of an idle service and per key, on a remote database as in production.

use std::{sync::Arc, time::Duration};

use tenant_auth_svc::domain::key::KeyRecord;

use super::{BATCH_VALIDATE_KEYS, MANY_KEYS, Plan, SERVER_CORE};
use crate::{
    database::Database,
    load::Load,
    service::{batch_request, connect_when_ready, create_keys, start_process},
    table,
};

/// How long the idle service is measured.
const IDLE_DURATION: Duration = Duration::from_secs(10);
/// Time until the last-used times of all keys are written: up to a minute until the job starts, and the write
/// itself.
const WRITE_BACK_DELAY: Duration = Duration::from_secs(75);
/// Keys per request.
const KEYS_PER_REQUEST: usize = 100;

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let database = Database::start()?;
    let writer = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &[])?;
    let keys = create_keys(&connect_when_ready(&writer).await?, MANY_KEYS).await?;
    drop(writer);
    let service = start_process(&plan.programs.service, Some(SERVER_CORE), &database.url, &[])?;
    connect_when_ready(&service).await?;
    // The cost of startup does not count as idle time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = service.resident_bytes()?;
    let before = service.cpu_time()?;
    tokio::time::sleep(IDLE_DURATION).await;
    let busy = (service.cpu_time()? - before).as_secs_f64() / IDLE_DURATION.as_secs_f64();
    let load = Load {
        address: service.address,
        path: BATCH_VALIDATE_KEYS,
        bodies: keys.chunks(KEYS_PER_REQUEST).map(batch_request).collect::<Arc<[_]>>(),
        connections: 1,
        streams: 1,
        is_expected: super::is_valid_batch,
    };
    load.run_once()?;
    let at_first = service.resident_bytes()?;
    tokio::time::sleep(WRITE_BACK_DELAY).await;
    let full = service.resident_bytes()?;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let each = full.saturating_sub(idle) / MANY_KEYS as u64;
    // Texts as short as those of this case are stored inline.
    let record = size_of::<KeyRecord>() as u64;
    table::print(
        "Resident memory",
        &["what", "value"],
        &[
            vec!["idle".to_owned(), mib(idle)],
            vec!["idle, share of a core".to_owned(), format!("{:.2} %", busy * 100.0)],
            vec![format!("just after {MANY_KEYS} keys were loaded"), mib(at_first)],
            vec!["… and after their last-used times were written".to_owned(), mib(full)],
            vec!["for each key".to_owned(), format!("{each} B")],
            vec!["… of which its record".to_owned(), format!("{record} B")],
            vec!["… beyond its record".to_owned(), format!("{} B", each.saturating_sub(record))],
        ],
    );
    Ok(())
}
