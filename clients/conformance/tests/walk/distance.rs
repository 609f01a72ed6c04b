//! Distant replicas.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::ensure;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner};

use crate::{
    RUNNER_BUILD_FOLDER,
    link::DelayedLink,
    load::run_load,
    pki::Authority,
    stage::{Scenery, Variables, endpoint_list, variables},
};

const CALLS: u64 = 150;
/// Number of loads, of which one must run without a hedge.
const HEDGED_LOADS: usize = 5;
/// Maximum number of additional calls by retries and hedges: a tenth, and ten at once.
const MAX_EXTRA_CALLS: u64 = CALLS / 10 + 10;

pub(crate) async fn round_trip_of_80_ms(language: &'static Language) -> anyhow::Result<Outcome> {
    run_with_round_trip(language, Duration::from_millis(80)).await
}

pub(crate) async fn round_trip_of_150_ms(language: &'static Language) -> anyhow::Result<Outcome> {
    run_with_round_trip(language, Duration::from_millis(150)).await
}

/// Measures the first calls of a client, in plaintext and encrypted.
async fn run_with_round_trip(language: &'static Language, round_trip: Duration) -> anyhow::Result<Outcome> {
    let authority = Authority::new()?;
    let shown = authority.sign("127.0.0.1")?.settings();
    let settings = [Variables::new(), Variables::new(), shown.clone(), shown];
    let at: Vec<_> =
        settings.into_iter().map(|own| Ok((port::reserve_address()?, own))).collect::<anyhow::Result<_>>()?;
    let stage = Scenery::with_replicas_at(&at).await?;
    let mut links = Vec::new();
    for replica in &stage.replicas {
        links.push(DelayedLink::to(replica.address, round_trip / 2).await?);
    }
    let [plain, encrypted] =
        [&links[..2], &links[2..]].map(|links| endpoint_list(links.iter().map(endpoint)));
    let mut trusting = variables(&encrypted);
    trusting.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
    let begin = |variables| {
        let key = stage.key.as_str();
        async move {
            let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &variables).await?;
            let latencies = run_load(&runner, key, CALLS).await?;
            anyhow::Ok((runner, latencies))
        }
    };
    let ((plain, in_plaintext), (encrypted, in_tls)) =
        tokio::try_join!(begin(variables(&plain)), begin(trusting))?;
    stage.until_all_asked().await?;
    let sent = || links[..2].iter().map(DelayedLink::calls).sum::<u64>();
    let at_first = sent().saturating_sub(CALLS);
    ensure!(at_first <= MAX_EXTRA_CALLS, "{CALLS} calls became {}", CALLS + at_first);

    // Once connections exist, the round trip alone does not make a call look slow. A busy machine
    // occasionally may.
    let mut sent_twice = u64::MAX;
    for _ in 0..HEDGED_LOADS {
        let before = sent();
        run_load(&plain, &stage.key, CALLS).await?;
        sent_twice = (sent() - before).saturating_sub(CALLS);
        if sent_twice == 0 {
            break;
        }
    }
    ensure!(sent_twice == 0, "of {CALLS} calls over open connections, {sent_twice} were sent twice");
    plain.close().await?;
    encrypted.close().await?;
    Ok(Outcome::Passed(Some(format!(
        "{} ms at most, TLS {} ms, {at_first} sent twice at first",
        in_plaintext.slowest_ms(),
        in_tls.slowest_ms(),
    ))))
}

fn endpoint(link: &DelayedLink) -> String {
    format!("{}:{}", Ipv4Addr::LOCALHOST, link.address.port())
}
