//! A worker that reads jobs of sessions from standard input and records their usage.
//!
//! Each line is a job, `<session id> <units>`. With `cargo run --release -- dev` in another terminal:
//!
//! ```console
//! $ tenantctl session bind my-session --ttl 1h < .tenant-auth/demo-key
//! $ echo 'my-session 3' | cargo run -p tenant-auth-client --example worker
//! done: 3 units for ten_demo
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{env, error::Error, time::Duration};

use tenant_auth_client::{Client, NotAdmitted, RecorderSettings, UsageRecorder};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("TENANT_AUTH_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let client = Client::builder(endpoint).user_agent("example-worker/1.0").connect_lazy()?;
    let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new())?;

    let mut jobs = BufReader::new(stdin()).lines();
    while let Some(job) = jobs.next_line().await? {
        let Some((session, units)) = job.split_once(' ') else {
            eprintln!("not a job: {job}");
            continue;
        };
        let units: i64 = units.trim().parse()?;
        let principal = match client.require_session(session, None, &["demo:read"]).await {
            Ok(principal) => principal,
            Err(NotAdmitted::Denied(denied)) => {
                println!("refused: {session} is {}", denied.verdict());
                continue;
            }
            Err(NotAdmitted::Undecided(error)) => return Err(error.into()),
        };
        // The work would be done here.
        let tenant = principal.tenant_id();
        recorder.record(tenant, "jobs.units", units)?;
        println!("done: {units} units for {tenant}");
    }

    for unsent in recorder.close(Duration::from_secs(5)).await {
        eprintln!("not recorded: {} events of the request {}", unsent.events.len(), unsent.request_id);
    }
    Ok(())
}
