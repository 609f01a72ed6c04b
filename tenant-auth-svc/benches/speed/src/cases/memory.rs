//! Memory: of an idle service, and of each key.

use std::time::Duration;

use super::{MANY, Plan, SERVER_CORE};
use crate::{service::Service, table};

/// How long the idle service is watched.
const IDLE: Duration = Duration::from_secs(10);

pub(super) async fn run(plan: &Plan) -> anyhow::Result<()> {
    let few = Service::start(&plan.programs.service, Some(SERVER_CORE), 1).await?;
    // What starting took is none of its idleness.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = few.process.resident()?;
    let before = few.process.cpu()?;
    tokio::time::sleep(IDLE).await;
    let busy = (few.process.cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
    let many = Service::start(&plan.programs.service, Some(SERVER_CORE), MANY).await?;
    let full = many.process.resident()?;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    table::print(
        "Memory, by what the kernel counts as resident",
        &["what", "value"],
        &[
            vec!["idle".to_owned(), mib(idle)],
            vec!["idle, share of a core".to_owned(), format!("{:.2} %", busy * 100.0)],
            vec!["with 100,000 keys in memory".to_owned(), mib(full)],
            vec![
                "for each key, its record included".to_owned(),
                format!("{} B", full.saturating_sub(idle) / MANY as u64),
            ],
        ],
    );
    Ok(())
}
