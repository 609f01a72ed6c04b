//! Replicas with TLS.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::ensure;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner};

use crate::{
    RUNNER_BUILD_FOLDER,
    load::{is_failed_with, run_load},
    pki::Authority,
    stage::{Scenery, assert_valid, validate, variables},
};

const CA_FILE: &str = "TENANT_AUTH_TLS_CA_FILE";

/// Three addresses in one list, two of them IP addresses. Each has its own certificate.
pub(crate) async fn own_certificates(language: &'static Language) -> anyhow::Result<Outcome> {
    let authority = Authority::new()?;
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let hosts =
        [(Ipv4Addr::LOCALHOST, "127.0.0.1"), (second, "127.0.0.2"), (Ipv4Addr::LOCALHOST, "localhost")];
    let (mut at, mut endpoints) = (Vec::new(), Vec::new());
    for (address, name) in hosts {
        let port = port::reserve_port(&[address.into()])?;
        at.push((SocketAddr::from((address, port)), authority.sign(name)?.settings()));
        endpoints.push(format!("{name}:{port}"));
    }
    let stage = Scenery::with_replicas_at(&at).await?;
    for before in ["", "https://"] {
        let list: Vec<_> = endpoints.iter().map(|endpoint| format!("{before}{endpoint}")).collect();
        let mut client_settings = variables(&list.join(","));
        client_settings.insert(CA_FILE.to_owned(), authority.ca());
        let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
        run_load(&runner, &stage.key, 60).await?;
        runner.close().await?;
    }
    stage.until_all_asked().await?;
    Ok(Outcome::OK)
}

/// Replicas that require a client certificate and present a certificate for a name other than their address.
pub(crate) async fn mutual(language: &'static Language) -> anyhow::Result<Outcome> {
    const NAME: &str = "tenant-auth.internal";
    let authority = Authority::new()?;
    let callers = tempfile::NamedTempFile::new()?;
    std::fs::write(&callers, "[[caller]]\nname = 'api'\nroles = ['validator']\ndns = ['api.internal']\n")?;
    let mut settings = authority.sign(NAME)?.settings();
    settings.insert("TENANT_AUTH_TLS_CLIENT_CA_FILE".to_owned(), authority.ca());
    settings.insert("TENANT_AUTH_CALLERS_FILE".to_owned(), callers.path().display().to_string());
    let stage = Scenery::with_replicas_at(&[
        (port::reserve_address()?, settings.clone()),
        (port::reserve_address()?, settings),
    ])
    .await?;

    let shown = authority.sign("api.internal")?;
    let mut client_settings = stage.variables();
    client_settings.insert(CA_FILE.to_owned(), authority.ca());
    client_settings.insert("TENANT_AUTH_TLS_SERVER_NAME".to_owned(), NAME.to_owned());
    // Without a certificate the program is an unknown caller.
    let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
    let answer = validate(&runner, &stage.key).await?;
    let refused = is_failed_with(&answer, &["UNAUTHENTICATED"]);
    ensure!(refused, "a program without a certificate was answered {answer}");
    runner.close().await?;

    client_settings.insert("TENANT_AUTH_TLS_CERT_FILE".to_owned(), shown.certificate);
    client_settings.insert("TENANT_AUTH_TLS_KEY_FILE".to_owned(), shown.key);
    let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
    assert_valid(&runner, &stage.key).await?;
    run_load(&runner, &stage.key, 60).await?;
    stage.until_all_asked().await?;
    runner.close().await?;
    Ok(Outcome::OK)
}

/// A replica that the client does not trust is unusable; another one in the list serves.
pub(crate) async fn wrong_authority(language: &'static Language) -> anyhow::Result<Outcome> {
    let (right, wrong) = (Authority::new()?, Authority::new()?);
    let at = [
        (port::reserve_address()?, right.sign("127.0.0.1")?.settings()),
        (port::reserve_address()?, wrong.sign("127.0.0.1")?.settings()),
    ];
    let stage = Scenery::with_replicas_at(&at).await?;
    let mut client_settings = variables(&at[1].0.to_string());
    client_settings.insert(CA_FILE.to_owned(), right.ca());
    let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
    let answer = validate(&runner, &stage.key).await?;
    ensure!(is_failed_with(&answer, &["UNAVAILABLE"]), "a replica of another authority: {answer}");
    runner.close().await?;

    let mut client_settings = stage.variables();
    client_settings.insert(CA_FILE.to_owned(), right.ca());
    let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
    for _ in 0..10 {
        assert_valid(&runner, &stage.key).await?;
    }
    runner.close().await?;
    Ok(Outcome::OK)
}
