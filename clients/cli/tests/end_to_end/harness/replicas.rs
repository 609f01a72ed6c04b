//! Two replicas of one database.

use tenant_auth_svc::config::Settings;
use tenant_auth_testkit::HranaServer;
use tokio::runtime::Runtime;

use super::Service;

/// Two replicas of one database that poll the change log only on request.
pub(crate) struct Replicas {
    pub(crate) one: Service,
    pub(crate) two: Service,
    pub(crate) database: HranaServer,
    _runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Replicas {
    pub(crate) fn start() -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let server = runtime.block_on(HranaServer::builder().token("token").start()).unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "token\n").unwrap();
        let settings = |settings: Settings| {
            settings
                .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
                .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(token.display().to_string()))
                .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()))
                .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("off".to_owned()))
        };
        let (one, two) = (Service::start_with("http://", settings), Service::start_with("http://", settings));
        Self { one, two, database: server, _runtime: runtime, _folder: folder }
    }
}
