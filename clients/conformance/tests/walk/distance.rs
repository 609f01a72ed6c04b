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
/// Loads of which one has to go without a hedge.
const TRIES: usize = 5;
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
    let begin = |variables| {
        let key = stage.key.as_str();
        async move {
            let runner = Runner::start(language, Path::new(OUT), &variables).await?;
            let told = load(&runner, key, CALLS).await?;
            anyhow::Ok((runner, told))
        }
    };
    let ((plain, in_plaintext), (encrypted, in_tls)) =
        tokio::try_join!(begin(variables(&plain)), begin(trusting))?;
    stage.all_asked().await?;
    let sent = || links[..2].iter().map(Link::calls).sum::<u64>();
    let at_first = sent().saturating_sub(CALLS);
    ensure!(at_first <= BUDGET, "{CALLS} calls became {}", CALLS + at_first);

    // Once there are connections, distance alone makes no call look slow. A machine that is busy may, now and then.
    let mut sent_twice = u64::MAX;
    for _ in 0..TRIES {
        let before = sent();
        load(&plain, &stage.key, CALLS).await?;
        sent_twice = (sent() - before).saturating_sub(CALLS);
        if sent_twice == 0 {
            break;
        }
    }
    ensure!(
        sent_twice == 0,
        "of {CALLS} calls over connections that there are, {sent_twice} were sent twice"
    );
    plain.close().await?;
    encrypted.close().await?;
    Ok(Outcome::Passed(Some(format!(
        "{} ms at most, TLS {} ms, {at_first} sent twice at first",
        in_plaintext.slowest(),
        in_tls.slowest(),
    ))))
}

fn endpoint(link: &Link) -> String {
    format!("{}:{}", Ipv4Addr::LOCALHOST, link.address.port())
}
