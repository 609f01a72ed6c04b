//! `dev`: runs a working service with a demo tenant in one command.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;

use super::{fail, print_line, serve_until_stopped, start_logging};
use crate::{
    build,
    config::{self, ServiceConfig, Settings},
    database::libsql::{LockError, OpenError},
    domain::{
        admin::KeyToIssue,
        audit::Actor,
        clock::SystemClock,
        id::TenantId,
        key::PresentedKey,
        network::AllowedNetworks,
        scope::{Scope, ScopeSet},
        text::{KeyName, Plan, TenantName},
        validate::KeyQuery,
        verdict::Verdict,
    },
    server::{self, RunningService},
};

const DEMO_TENANT: &str = "ten_demo";
const DEMO_SCOPES: [&str; 2] = ["demo:read", "demo:write"];
const DEMO_KEY_TIMEOUT: Duration = Duration::from_secs(10);
/// The variables that `dev` reads. None of them names a database: `dev` must not write to a production database that
/// the environment names.
const VARIABLES: [&str; 6] = [
    "TENANT_AUTH_LOG",
    "TENANT_AUTH_CACHE_",
    "TENANT_AUTH_FORWARD_",
    "TENANT_AUTH_PRINCIPAL_",
    "TENANT_AUTH_KEY_HEADERS",
    "TENANT_AUTH_ENVOY_",
];

/// Where to listen and where to keep the data.
#[derive(Args, Debug)]
pub(super) struct DevArgs {
    /// Address, or localhost, and port for gRPC, on loopback
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:50051")]
    listen: String,
    /// Folder for the database and the demo key; delete it to start from scratch
    #[arg(long, value_name = "DIR", default_value = ".tenant-auth")]
    data_dir: PathBuf,
}

pub(super) async fn run(args: DevArgs) -> ExitCode {
    let database = args.data_dir.join("dev.db");
    let settings = Settings::from_environment()
        .restricted_to(|name| VARIABLES.iter().any(|prefix| name.starts_with(prefix)))
        .with_option("--listen", "TENANT_AUTH_LISTEN", Some(args.listen.clone()))
        // Any free port: a second `dev` is often started on the next gRPC port.
        .with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()))
        .with_flag("TENANT_AUTH_CONSOLE_LISTEN", Some("127.0.0.1:0".to_owned()))
        // There is no load balancer.
        .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
        .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
        .with_option("--data-dir", "TENANT_AUTH_DATABASE_URL", Some(format!("file:{}", database.display())));
    let forward = std::env::var("TENANT_AUTH_FORWARD_LISTEN").unwrap_or_default();
    for (name, listen) in [("--listen", &args.listen), ("TENANT_AUTH_FORWARD_LISTEN", &forward)] {
        if config::parse_address(listen).is_ok_and(|address| !address.ip().is_loopback()) {
            let message =
                "not a loopback address; dev serves only this machine, without encryption. Use serve instead";
            return fail(2, &format!("{name} {listen}: {message}"));
        }
    }
    let config = match ServiceConfig::read(settings) {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let mut running = match server::start(config, SystemClock::shared()).await {
        Ok(running) => running,
        Err(error @ server::StartError::Listen { .. }) => {
            return fail(
                1,
                &format!(
                    "{error}. If the service is running already, use another port: --listen 127.0.0.1:50052"
                ),
            );
        }
        Err(server::StartError::Open(error)) => return fail(1, &describe_open_error(&args.data_dir, &error)),
        Err(error) => return fail(1, &error.to_string()),
    };
    if let Err(error) = running.wait_until_ready().await {
        return fail(1, &error.to_string());
    }
    match load_or_issue_demo_key(&running, &args.data_dir.join("demo-key")).await {
        Ok(key) => print_line(&welcome_text(&running, &database, &key)),
        Err(error) => return fail(1, &format!("{error:#}")),
    }
    // `dev` has no files to reload, and closing its terminal must stop it: no SIGHUP handler.
    match serve_until_stopped(running, None).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

/// Explains why the database cannot be opened, by the option that names its folder.
fn describe_open_error(folder: &Path, error: &OpenError) -> String {
    let folder = folder.display();
    match error {
        OpenError::Lock(LockError::Held { holder, .. }) => format!(
            "--data-dir {folder} is in use by process {holder}: stop that process, or use another folder: --data-dir .tenant-auth-2"
        ),
        error => format!("--data-dir {folder}: {error}"),
    }
}

/// Returns the demo key of the last run if it is still valid, or issues a new one.
async fn load_or_issue_demo_key(running: &RunningService, file: &Path) -> anyhow::Result<String> {
    if let Ok(text) = fs::read_to_string(file) {
        let key = PresentedKey::new(text.trim().to_owned());
        let query = KeyQuery::new(key);
        let decision = running.validator().decide(&query, Instant::now() + DEMO_KEY_TIMEOUT).await?;
        if decision.verdict == Verdict::Valid {
            return Ok(query.key.expose().to_owned());
        }
    }
    let actor = || Actor { caller: "dev".to_owned(), request_id: "dev".to_owned() };
    let deadline = Instant::now() + DEMO_KEY_TIMEOUT;
    let tenant_id = TenantId::parse(DEMO_TENANT)?;
    let (name, plan) = (TenantName::parse("Demo")?, Plan::parse("dev")?);
    let admin = running.admin();
    let tenant = admin.create_tenant(Some(tenant_id.clone()), name, plan, actor(), deadline).await?;
    let scopes = DEMO_SCOPES.iter().map(|scope| Scope::parse(scope)).collect::<Result<_, _>>()?;
    let key_to_issue = KeyToIssue {
        tenant_id: tenant.outcome.tenant.id,
        name: KeyName::parse("demo key")?,
        scopes: ScopeSet::new(scopes)?,
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: None,
        reason: None,
    };
    let issued = admin.issue_key(key_to_issue, actor(), deadline).await?;
    let key = issued.outcome.plaintext.expose();
    write_private(file, key).with_context(|| format!("cannot write the key to {}", file.display()))?;
    Ok(key.to_owned())
}

/// Writes a file that only its owner can read.
fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    writeln!(options.open(file)?, "{text}")
}

fn welcome_text(running: &RunningService, database: &Path, key: &str) -> String {
    let address = running.address();
    // Under cargo there is a checkout to run tenantctl from; otherwise it is installed next to this program.
    let tenantctl = match std::env::var_os("CARGO") {
        Some(_) => "cargo run -q --release -p tenantctl --",
        None => "tenantctl",
    };
    let endpoint = match address.to_string().as_str() {
        "127.0.0.1:50051" => String::new(),
        other => format!(" --endpoint http://{other}"),
    };
    let (version, database) = (build::THIS.version, database.display());
    let status = running.ops_address().map_or_else(String::new, |ops| {
        // Quoted, because some shells treat the question mark as a pattern.
        format!("Status:\n  curl 'http://{ops}/readyz?verbose'\n\n")
    });
    let console = running
        .console_address()
        .map_or_else(String::new, |console| format!("In a browser:\n  http://{console}/\n\n"));
    let forward = running.forward_address().map_or_else(String::new, |forward| {
        format!("For a proxy:\n  curl -i -H 'Authorization: Bearer {key}' http://{forward}/forward-auth\n\n")
    });
    format!(
        "\
tenant-auth {version} is ready
  endpoint  {address} (plaintext, this machine only)
  database  {database} (embedded, used only by this process)
  tenant    {DEMO_TENANT}
  key       {key}

With grpcurl:
  grpcurl -plaintext {address} list
  grpcurl -plaintext -d '{{\"key\":\"{key}\",\"required_scopes\":[\"demo:read\"]}}' {address} tenantauth.v1.ValidationService/ValidateKey

With tenantctl:
  echo '{key}' | {tenantctl}{endpoint} validate --scope demo:read
  {tenantctl}{endpoint} key list --tenant {DEMO_TENANT}

{console}{forward}{status}Ctrl-C stops it; the data stays in the folder of the database."
    )
}
