//! Replicas far away.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::ensure;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner};

use crate::{
    OUT,
    link::Link,
    load::load,
    pki::Authority,
    stage::{Stage, Variables, list, variables},
};

const CALLS: u64 = 150;
/// What retries and hedges may add to the calls: a tenth, and ten at once.
const BUDGET: u64 = CALLS / 10 + 10;

pub(crate) async fn round_trip_of_80_ms(language: &'static Language) -> anyhow::Result<Outcome> {
    far(language, Duration::from_millis(80)).await
}

pub(crate) async fn round_trip_of_150_ms(language: &'static Language) -> anyhow::Result<Outcome> {
    far(language, Duration::from_millis(150)).await
}

/// Calls that are the first that the client makes, in plaintext and encrypted.
async fn far(language: &'static Language, round_trip: Duration) -> anyhow::Result<Outcome> {
    let authority = Authority::new()?;
    let shown = authority.sign("127.0.0.1")?.settings();
    let settings = [Variables::new(), Variables::new(), shown.clone(), shown];
    let at: Vec<_> =
        settings.into_iter().map(|own| Ok((port::take()?, own))).collect::<anyhow::Result<_>>()?;
    let stage = Stage::at(&at).await?;
    let mut links = Vec::new();
    for replica in &stage.replicas {
        links.push(Link::to(replica.address, round_trip / 2).await?);
    }
    let [plain, encrypted] = [&links[..2], &links[2..]].map(|links| list(links.iter().map(endpoint)));
    let mut trusting = variables(&encrypted);
    trusting.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
    let run = |variables| {
        let key = stage.key.as_str();
        async move {
            let runner = Runner::start(language, Path::new(OUT), &variables).await?;
            let told = load(&runner, key, CALLS).await?;
            runner.close().await?;
            anyhow::Ok(told)
        }
    };
    let (in_plaintext, in_tls) = tokio::try_join!(run(variables(&plain)), run(trusting))?;
    let sent: u64 = links[..2].iter().map(Link::calls).sum();
    ensure!(sent <= CALLS + BUDGET, "{CALLS} calls became {sent}");
    stage.all_asked().await?;
    Ok(Outcome::Passed(Some(format!(
        "{} ms at most, TLS {} ms, {} sent twice",
        in_plaintext.slowest(),
        in_tls.slowest(),
        sent.saturating_sub(CALLS)
    ))))
}

fn endpoint(link: &Link) -> String {
    format!("{}:{}", Ipv4Addr::LOCALHOST, link.address.port())
}
