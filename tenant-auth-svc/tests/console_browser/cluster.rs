//! Three replicas on one database, one of them with a console, and what an operator would find there.

use std::{fs, net::SocketAddr, time::Duration};

use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, limit_service_client::LimitServiceClient,
    session_service_client::SessionServiceClient, usage_service_client::UsageServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::{access::TokenHash, clock::SystemClock},
    server::{self, RunningService},
};
use tenant_auth_testkit::HranaServer;
use tonic::{
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// The token of the database.
const DATABASE_TOKEN: &str = "database";
/// The callers: name, roles.
const CALLERS: [(&str, &str); 4] = [
    ("vera", "'viewer'"),
    ("otto", "'operator'"),
    ("machine", "'meter'"),
    ("seed", "'admin', 'validator', 'sessions', 'meter'"),
];
/// Names that must be inert wherever they are shown.
const HOSTILE_NAMES: [&str; 5] = [
    "<script>window.hostile = true</script>",
    "<img src=x onerror=\"window.hostile = true\">",
    "\" autofocus onfocus=\"window.hostile = true",
    "\u{202e}gnp.exe \u{2066}\u{200f}שלום עולם",
    "{{constructor.constructor('window.hostile = true')()}}",
];

/// Returns the token of a caller.
pub(crate) fn token_of(caller: &str) -> String {
    format!("tac_{caller}")
}

/// The replicas and their database.
pub(crate) struct Cluster {
    pub(crate) database: HranaServer,
    replicas: Vec<RunningService>,
    /// A key that a customer has sent in.
    pub(crate) key: String,
    /// The id of the tenant with the hostile name.
    pub(crate) hostile_tenant: String,
    _folder: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let database = HranaServer::builder().token(DATABASE_TOKEN).start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let callers = CALLERS.map(|(name, roles)| {
            let hash = TokenHash::of(&token_of(name));
            format!("[[caller]]\nname = '{name}'\nroles = [{roles}]\ntoken_sha256 = ['{hash}']\n")
        });
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let settings = [
            ("TENANT_AUTH_DATABASE_URL", database.url()),
            ("TENANT_AUTH_DATABASE_TOKEN_FILE", write("token", DATABASE_TOKEN)),
            ("TENANT_AUTH_CALLERS_FILE", write("callers.toml", &callers.concat())),
            ("TENANT_AUTH_CREATE_SCHEMA", "true".to_owned()),
            ("TENANT_AUTH_LISTEN", "127.0.0.1:0".to_owned()),
            ("TENANT_AUTH_OPS_LISTEN", "off".to_owned()),
            ("TENANT_AUTH_DRAIN_DELAY", "0s".to_owned()),
        ];
        let settings = settings
            .into_iter()
            .fold(Settings::default(), |all, (variable, value)| all.with_flag(variable, Some(value)));
        let mut replicas = vec![start(settings.clone()).await, start(settings.clone()).await];
        let peers: Vec<_> = replicas.iter().map(|peer| format!("http://{}", peer.address())).collect();
        let settings = settings
            .with_flag("TENANT_AUTH_CONSOLE_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_CONSOLE_PEERS", Some(peers.join(",")))
            .with_flag("TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE", Some(write("peers", &token_of("machine"))));
        replicas.push(start(settings).await);
        let mut cluster =
            Self { database, replicas, key: String::new(), hostile_tenant: String::new(), _folder: folder };
        cluster.seed().await;
        cluster
    }

    /// The address of the console.
    pub(crate) fn console(&self) -> SocketAddr {
        self.replicas[2].console_address().unwrap()
    }

    /// Keys that are in use, one of which is asked about; sessions, usage and limits; and names that are meant to do harm.
    async fn seed(&mut self) {
        let channel = Channel::from_shared(format!("http://{}", self.replicas[2].address())).unwrap();
        let with_token = || InterceptedService::new(channel.connect_lazy(), Token(token_of("seed")));
        let mut admin = AdminServiceClient::new(with_token());
        let mut validation = ValidationServiceClient::new(with_token());
        for (id, name, plan) in
            [("acme", "Acme Corp", "pro"), ("globex", "Globex", "free"), ("initech", "Initech", "free")]
        {
            let tenant = v1::CreateTenantRequest {
                tenant_id: id.to_owned(),
                name: name.to_owned(),
                plan: plan.to_owned(),
            };
            admin.create_tenant(tenant).await.unwrap();
            for number in 1..=3 {
                let key = v1::IssueKeyRequest {
                    tenant_id: id.to_owned(),
                    name: format!("{name} {number}"),
                    scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
                    ..Default::default()
                };
                self.key = admin.issue_key(key).await.unwrap().into_inner().plaintext;
                let request = v1::ValidateKeyRequest { key: self.key.clone(), ..Default::default() };
                validation.validate_key(request).await.unwrap();
            }
        }
        let limit = v1::Limit {
            subject: Some(v1::LimitSubject {
                subject: Some(v1::limit_subject::Subject::TenantId("initech".to_owned())),
            }),
            name: "daily".to_owned(),
            metric: "requests".to_owned(),
            rule: Some(v1::limit::Rule::Quota(v1::Quota {
                amount: 1_000,
                window: Some(v1::quota::Window::Calendar(v1::CalendarWindow::Day.into())),
            })),
            on_outage: v1::OutagePolicy::LocalShare.into(),
            ..Default::default()
        };
        admin.set_limit(v1::SetLimitRequest { limit: Some(limit), expected_version: None }).await.unwrap();
        let credential = v1::limit_credential::Credential::Key(v1::ValidateKeyRequest {
            key: self.key.clone(),
            ..Default::default()
        });
        let consume = v1::ConsumeRequest {
            credential: Some(v1::LimitCredential { credential: Some(credential) }),
            costs: vec![v1::Cost { metric: "requests".to_owned(), amount: 420 }],
            ..Default::default()
        };
        LimitServiceClient::new(with_token()).consume(consume).await.unwrap();
        let session = v1::BindSessionRequest {
            key: self.key.clone(),
            session_id: "session-1".to_owned(),
            ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            ..Default::default()
        };
        SessionServiceClient::new(with_token()).bind_session(session).await.unwrap();
        self.record_usage(UsageServiceClient::new(with_token())).await;
        self.make_names_hostile();
    }

    async fn record_usage(&self, mut usage: UsageServiceClient<InterceptedService<Channel, Token>>) {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        for hours_ago in 0..24 {
            let at = now.saturating_sub(Duration::from_secs(3_600 * hours_ago));
            let event = v1::UsageEvent {
                tenant_id: "initech".to_owned(),
                metric: "requests".to_owned(),
                quantity: 100 + 7 * i64::try_from(hours_ago).unwrap(),
                occurred_at: Some(prost_types::Timestamp {
                    seconds: i64::try_from(at.as_secs()).unwrap(),
                    nanos: 0,
                }),
            };
            let request =
                v1::RecordUsageRequest { events: vec![event], request_id: format!("usage-{hours_ago}") };
            usage.record_usage(request).await.unwrap();
        }
    }

    /// With SQL, because the service accepts no such names.
    fn make_names_hostile(&mut self) {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        self.hostile_tenant = "hostile".to_owned();
        let all = HOSTILE_NAMES.concat();
        let name = quoted(&format!("{all}{}", "long ".repeat(2_000)));
        self.database
            .execute(&format!(
                "INSERT INTO tenants (id, name, plan, status, created_at, updated_at) VALUES ('hostile', {name}, {}, 'active', 0, 0)",
                quoted(&all)
            ))
            .unwrap();
        for (number, name) in HOSTILE_NAMES.iter().enumerate() {
            self.database
                .execute(&format!(
                    "INSERT INTO api_keys (id, tenant_id, key_hash, name, prefix_hint, scopes, created_at) \
                     VALUES ('key_hostile_{number}', 'hostile', randomblob(32), {}, {}, '[]', 0)",
                    quoted(name),
                    quoted("ta_<b>hi"),
                ))
                .unwrap();
        }
    }
}

async fn start(settings: Settings) -> RunningService {
    let config = ServiceConfig::read(settings).unwrap().0;
    let mut running = server::start(config, SystemClock::shared()).await.unwrap();
    running.wait_until_ready().await.unwrap();
    running
}

/// Adds a caller's token to each request.
#[derive(Clone)]
struct Token(String);

impl Interceptor for Token {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let value: MetadataValue<_> = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}
