//! The service under attack, and the well-behaved caller next to the attacker.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, Verdict, admin_service_client::AdminServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::domain::access::TokenHash;
use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{http_request, http_until, program::addresses, unknown_key, wire::with_token};

/// The tokens of the well-behaved caller and of a known caller that misbehaves.
pub(crate) const GOOD_TOKEN: &str = "good";
pub(crate) const GREEDY_TOKEN: &str = "greedy";
/// Maximum time to wait for a response, generous enough for a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The resource limits of the process.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProcessLimits {
    /// Maximum number of file descriptors (`ulimit -n`); `None` keeps the inherited limit.
    pub(crate) descriptors: Option<u32>,
}

/// The results that the well-behaved caller saw.
#[derive(Default)]
pub(crate) struct CallerResults {
    pub(crate) answers: usize,
    pub(crate) errors: Vec<String>,
}

impl CallerResults {
    fn record<T>(
        &mut self,
        what: &str,
        outcome: Result<T, impl std::fmt::Display>,
        is_right: impl FnOnce(&T) -> bool,
    ) {
        match outcome {
            Ok(answer) if is_right(&answer) => self.answers += 1,
            Ok(_) => self.errors.push(format!("{what}: wrong response")),
            Err(error) => self.errors.push(format!("{what}: {error}")),
        }
    }
}

/// A service under attack. Dropping it ends the process.
pub(crate) struct Victim {
    process: Child,
    _folder: TempDir,
    pub(crate) database: HranaServer,
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    good_channel: Channel,
    key: String,
}

impl Victim {
    pub(crate) async fn start(limits: ProcessLimits) -> Self {
        Self::start_with(limits, &[]).await
    }

    pub(crate) async fn start_with(limits: ProcessLimits, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let callers = folder.path().join("callers.toml");
        let caller = |name: &str, roles: &str| {
            let hash = TokenHash::of(name);
            format!("[[caller]]\nname = '{name}'\nroles = [{roles}]\ntoken_sha256 = ['{hash}']\n")
        };
        let text = caller(GOOD_TOKEN, "'validator', 'admin', 'sessions'")
            + &caller(GREEDY_TOKEN, "'validator', 'meter', 'auditor'");
        std::fs::write(&callers, text).unwrap();
        let database = HranaServer::builder().start().await.unwrap();
        let limit = limits.descriptors.map_or(String::new(), |most| format!("ulimit -n {most}; "));
        let serve = format!("{limit}exec \"$0\" serve --listen 127.0.0.1:0 --log-format json");
        let mut process = Command::new("sh")
            .args(["-c", &serve, env!("CARGO_BIN_EXE_tenant-auth-svc")])
            .env_clear()
            .env("TENANT_AUTH_DATABASE_URL", database.url())
            .env("TENANT_AUTH_CREATE_SCHEMA", "true")
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_CALLERS_FILE", &callers)
            // The database runs on this machine, which may be busy. Slow databases are covered by another
            // test.
            .env("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "10s")
            .env("TENANT_AUTH_DATABASE_TIMEOUT", "10s")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let (address, ops) = addresses(&mut log).await;
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
        let good = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut victim = Self {
            process,
            _folder: folder,
            database,
            address: address.parse().unwrap(),
            ops,
            good_channel: good,
            key: String::new(),
        };
        victim.key = victim.issue_key().await;
        victim
    }

    /// Opens the connection of the well-behaved caller.
    pub(crate) fn good_caller_channel(&self) -> Channel {
        self.good_channel.clone()
    }

    async fn issue_key(&self) -> String {
        let mut admin = AdminServiceClient::new(self.good_channel.clone());
        let tenant = v1::CreateTenantRequest { name: "Acme".to_owned(), ..Default::default() };
        let tenant =
            admin.create_tenant(with_token(GOOD_TOKEN, tenant)).await.unwrap().into_inner().tenant.unwrap();
        let key =
            v1::IssueKeyRequest { tenant_id: tenant.tenant_id, name: "key".to_owned(), ..Default::default() };
        admin.issue_key(with_token(GOOD_TOKEN, key)).await.unwrap().into_inner().plaintext
    }

    /// Waits until the service reports the wanted number of connections.
    pub(crate) async fn until_connections(&self, wanted: impl Fn(usize) -> bool) {
        http_until(self.ops, "GET /metrics", |answer| {
            let live = answer.body.lines().filter(|line| line.starts_with("tenant_auth_connections{"));
            wanted(live.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum())
        })
        .await;
    }

    /// Returns the resident memory, in bytes.
    pub(crate) fn resident_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
    }

    /// Runs one round of the requests of a well-behaved caller and of the probes next to it: known keys, an
    /// unknown key, a new connection, and both kinds of health check.
    pub(crate) async fn run_good_calls(&self, seen: &mut CallerResults) {
        let all = async {
            let fresh = Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await;
            let channels = fresh.inspect_err(|error| seen.errors.push(format!("connect: {error}"))).ok();
            for channel in channels.iter().chain([&self.good_channel]) {
                let mut client = ValidationServiceClient::new(channel.clone());
                let keys = std::iter::repeat_n(self.key.clone(), 10).chain([unknown_key()]);
                for (number, key) in keys.enumerate() {
                    let request = v1::ValidateKeyRequest { key, ..Default::default() };
                    let answer = client.validate_key(with_token(GOOD_TOKEN, request)).await;
                    let right = if number < 10 { Verdict::Valid } else { Verdict::Unknown };
                    seen.record("validate", answer, |answer| answer.get_ref().verdict() == right);
                }
                let check = with_token(GOOD_TOKEN, HealthCheckRequest::default());
                seen.record("health", HealthClient::new(channel.clone()).check(check).await, |_| true);
            }
            // A probe has no token. It comes from another address, as a node's probe does: unknown callers
            // are distinguished by address.
            let probe_channel = Channel::from_shared(format!("http://{}", self.address)).unwrap();
            let probe_channel = probe_channel.local_address(Some([127, 0, 0, 2].into())).connect_lazy();
            let probe = HealthClient::new(probe_channel).check(HealthCheckRequest::default()).await;
            seen.record("probe", probe, |_| true);
            for path in ["/livez", "/readyz", "/metrics"] {
                let answer = http_request(self.ops, &format!("GET {path}")).await;
                seen.record(path, answer, |answer| answer.status == 200);
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, all)
            .await
            .expect("the well-behaved caller must get its responses");
    }
}
