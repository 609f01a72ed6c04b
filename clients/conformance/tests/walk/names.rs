//! Resolution of replicas: DNS names and IPv6 addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tenant_auth_conformance::{WAIT_TIMEOUT, language::Language, port, report::Outcome, runner::Runner};
use tokio::time::{interval, timeout};

use crate::{
    RUNNER_BUILD_FOLDER,
    load::{is_failed_with, run_load, run_load_during},
    namespace::HostNames,
    pki::Authority,
    stage::{Scenery, Variables, validate, variables},
};

/// A name that does not exist when the client starts, a name that appears later, and a name whose address
/// changes because its replica was replaced.
pub(crate) async fn changing_names(language: &'static Language) -> anyhow::Result<Outcome> {
    const FIRST: &str = "first.walk.test";
    const SECOND: &str = "second.walk.test";
    let names = match HostNames::new().await? {
        Ok(names) => names,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    let hosts = [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let port = port::reserve_port(&hosts.map(IpAddr::from))?;
    let at = |host: usize| (SocketAddr::from((hosts[host], port)), Variables::new());
    let mut stage = Scenery::with_replicas_at(&[at(0), at(1)]).await?;
    let key = stage.key.clone();
    let runner = names.runner(language, &variables(&format!("{FIRST}:{port},{SECOND}:{port}"))).await?;

    let answer = validate(&runner, &key).await?;
    let undecided = is_failed_with(&answer, &["UNAVAILABLE", "DEADLINE_EXCEEDED"]);
    ensure!(undecided, "without any address, the answer was {answer}");
    names.set(&[(FIRST, "127.0.0.2")])?;
    until_valid(&runner, &key).await.context("after the first name has appeared")?;

    names.set(&[(FIRST, "127.0.0.2"), (SECOND, "127.0.0.3")])?;
    run_load_during(&runner, &key, stage.replicas[1].until_validations(10))
        .await
        .context("a second name has appeared")?;

    stage.add_replica(at(2).0).await?;
    let replaced = async {
        stage.replicas[0].stop().await?;
        names.set(&[(FIRST, "127.0.0.4"), (SECOND, "127.0.0.3")])?;
        stage.replicas[2].until_validations(10).await
    };
    run_load_during(&runner, &key, replaced).await.context("the first name has moved")?;
    runner.close().await?;
    Ok(Outcome::OK)
}

/// The client uses both addresses of a name, in plaintext and encrypted.
pub(crate) async fn both_families(language: &'static Language) -> anyhow::Result<Outcome> {
    const NAME: &str = "both.walk.test";
    if let Some(why) = missing_ipv6_reason() {
        return Ok(Outcome::Skipped(why));
    }
    let names = match HostNames::new().await? {
        Ok(names) => names,
        Err(why) => return Ok(Outcome::Skipped(why)),
    };
    names.set(&[(NAME, "127.0.0.1"), (NAME, "::1")])?;
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let authority = Authority::new()?;
    let shown = authority.sign(NAME)?.settings();
    let (plain, encrypted) = (port::reserve_port(&addresses)?, port::reserve_port(&addresses)?);
    let mut at = Vec::new();
    for address in addresses {
        at.push((SocketAddr::from((address, plain)), Variables::new()));
        at.push((SocketAddr::from((address, encrypted)), shown.clone()));
    }
    let stage = Scenery::with_replicas_at(&at).await?;
    let mut trusting = variables(&format!("{NAME}:{encrypted}"));
    trusting.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
    for client_settings in [variables(&format!("{NAME}:{plain}")), trusting] {
        let runner = names.runner(language, &client_settings).await?;
        run_load(&runner, &stage.key, 60).await?;
        runner.close().await?;
    }
    stage.until_all_asked().await?;
    Ok(Outcome::OK)
}

/// An IPv6 address in brackets, in plaintext and encrypted, in each notation.
pub(crate) async fn ipv6(language: &'static Language) -> anyhow::Result<Outcome> {
    if let Some(why) = missing_ipv6_reason() {
        return Ok(Outcome::Skipped(why));
    }
    let address = IpAddr::from(Ipv6Addr::LOCALHOST);
    let authority = Authority::new()?;
    let shown = authority.sign("::1")?.settings();
    let (plain, encrypted) = (port::reserve_port(&[address])?, port::reserve_port(&[address])?);
    let at = [((address, plain).into(), Variables::new()), ((address, encrypted).into(), shown)];
    let stage = Scenery::with_replicas_at(&at).await?;
    let endpoints = [
        format!("[::1]:{plain}"),
        format!("http://[::1]:{plain}"),
        format!("dns:///[::1]:{plain}"),
        format!("[::1]:{encrypted}"),
        format!("https://[::1]:{encrypted}"),
    ];
    for (number, endpoint) in endpoints.iter().enumerate() {
        let mut client_settings = variables(endpoint);
        if number >= 3 {
            client_settings.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
        }
        let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
        run_load(&runner, &stage.key, 10).await.with_context(|| endpoint.clone())?;
        runner.close().await?;
    }
    stage.until_all_asked().await?;
    Ok(Outcome::OK)
}

/// Returns why IPv6 is not available on this machine.
fn missing_ipv6_reason() -> Option<String> {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).err().map(|error| format!("no IPv6: {error}"))
}

/// Repeats a call until it is answered.
async fn until_valid(runner: &Runner, key: &str) -> anyhow::Result<()> {
    let until_answered = async {
        let mut turns = interval(Duration::from_millis(50));
        loop {
            turns.tick().await;
            let answer = validate(runner, key).await?;
            if answer["verdict"] == "VALID" {
                return Ok(());
            }
            ensure!(
                is_failed_with(&answer, &["UNAVAILABLE", "DEADLINE_EXCEEDED"]),
                "unexpected answer {answer}"
            );
        }
    };
    timeout(WAIT_TIMEOUT, until_answered).await.context("no answer")?
}
