//! Proxies named in the environment.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner};

use crate::{
    RUNNER_BUILD_FOLDER,
    load::run_load,
    namespace::HostNames,
    pki::Authority,
    stage::{Scenery, Variables, variables},
};

const PROXY_VARIABLES: [&str; 5] = ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy"];
/// A name that looks neither like loopback nor like a name inside a cluster.
const SERVER_NAME: &str = "tenant-auth.example.com";

/// The proxy variables name a port without a listener, with no exceptions, so a client that used them would
/// fail.
pub(crate) async fn proxies(language: &'static Language) -> anyhow::Result<Outcome> {
    let authority = Authority::new()?;
    let shown = authority.sign("localhost")?.settings();
    let at = [(port::reserve_address()?, Variables::new()), (port::reserve_address()?, shown)];
    let stage = Scenery::with_replicas_at(&at).await?;
    let refuses = format!("http://{}", port::reserve_address()?);
    let [plain, encrypted] = at.map(|(address, _)| address.port());
    let options = |endpoint: &str| {
        let mut options = variables(endpoint);
        for name in PROXY_VARIABLES {
            let value = if name == "no_proxy" { String::new() } else { refuses.clone() };
            options.insert(name.to_uppercase(), value.clone());
            options.insert(name.to_owned(), value);
        }
        options
    };
    for endpoint in [format!("{}:{plain}", Ipv4Addr::LOCALHOST), format!("https://localhost:{encrypted}")] {
        let mut options = options(&endpoint);
        if endpoint.starts_with("https") {
            options.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
        }
        let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &options).await?;
        run_load(&runner, &stage.key, 10).await.with_context(|| endpoint.clone())?;
        runner.close().await?;
    }
    let Ok(names) = HostNames::new().await? else { return Ok(Outcome::OK) };
    names.set(&[(SERVER_NAME, "127.0.0.1")])?;
    let runner = names.runner(language, &options(&format!("{SERVER_NAME}:{plain}"))).await?;
    run_load(&runner, &stage.key, 10).await.context(SERVER_NAME)?;
    runner.close().await?;
    Ok(Outcome::OK)
}
