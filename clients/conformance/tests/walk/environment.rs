//! What the machine's environment says about proxies.

use std::{net::Ipv4Addr, path::Path};

use anyhow::Context as _;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner};

use crate::{
    OUT,
    load::load,
    namespace::Names,
    pki::Authority,
    stage::{Stage, Variables, variables},
};

const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy"];
/// It is neither loopback nor the name of something in a cluster, by its looks.
const NAME: &str = "tenant-auth.example.com";

/// They lead to a port where nobody listens, and nobody is excepted: whoever used them would fail.
pub(crate) async fn proxies(language: &'static Language) -> anyhow::Result<Outcome> {
    let authority = Authority::new()?;
    let shown = authority.sign("localhost")?.settings();
    let at = [(port::take()?, Variables::new()), (port::take()?, shown)];
    let stage = Stage::at(&at).await?;
    let refuses = format!("http://{}", port::take()?);
    let [plain, encrypted] = at.map(|(address, _)| address.port());
    let told = |endpoint: &str| {
        let mut told = variables(endpoint);
        for name in PROXIES {
            let value = if name == "no_proxy" { String::new() } else { refuses.clone() };
            told.insert(name.to_uppercase(), value.clone());
            told.insert(name.to_owned(), value);
        }
        told
    };
    for endpoint in [format!("{}:{plain}", Ipv4Addr::LOCALHOST), format!("https://localhost:{encrypted}")] {
        let mut told = told(&endpoint);
        if endpoint.starts_with("https") {
            told.insert("TENANT_AUTH_TLS_CA_FILE".to_owned(), authority.ca());
        }
        let runner = Runner::start(language, Path::new(OUT), &told).await?;
        load(&runner, &stage.key, 10).await.with_context(|| endpoint.clone())?;
        runner.close().await?;
    }
    let Ok(names) = Names::new().await? else { return Ok(Outcome::OK) };
    names.are(&[(NAME, "127.0.0.1")])?;
    let runner = names.runner(language, &told(&format!("{NAME}:{plain}"))).await?;
    load(&runner, &stage.key, 10).await.context(NAME)?;
    runner.close().await?;
    Ok(Outcome::OK)
}
