//! A service with keys to validate.

use std::{net::SocketAddr, path::Path, process::Command, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, validation_service_client::ValidationServiceClient,
};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{load::frame, process::Process};

/// Number of keys that one request imports.
const KEYS_PER_REQUEST: usize = 500;

/// The gRPC health name that reports whether a service decides keys.
const HEALTH_SERVICE_NAME: &str = "tenantauth.v1.ValidationService";

/// A service on an embedded database, with cached keys.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub process: Process,
    /// The keys in its cache.
    pub keys: Vec<String>,
    _folder: TempDir,
}

impl Service {
    /// Starts a service on a core, and lets it cache `count` keys.
    ///
    /// # Errors
    /// Fails if the service does not start, or does not accept one of the keys.
    pub async fn start(program: &Path, core: Option<usize>, count: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("file:{}", folder.path().join("bench.db").display());
        let process = start_process(program, core, &url, &[])?;
        let channel = connect_when_ready(&process).await?;
        let keys = create_keys(&channel, count).await?;
        let mut validation = ValidationServiceClient::new(channel)
            .max_encoding_message_size(1 << 20)
            .max_decoding_message_size(1 << 22);
        for keys in keys.chunks(KEYS_PER_REQUEST) {
            let requests = keys.iter().map(|key| validate_request(key)).collect();
            let answer = validation.batch_validate_keys(v1::BatchValidateKeysRequest { requests }).await?;
            for result in answer.into_inner().results {
                use v1::batch_validate_keys_result::Result as Outcome;
                let Some(Outcome::Response(decision)) = result.result else {
                    anyhow::bail!("a key was not decided")
                };
                anyhow::ensure!(decision.verdict() == v1::Verdict::Valid, "a key is not valid: {decision:?}");
            }
        }
        Ok(Self { process, keys, _folder: folder })
    }

    /// Returns a request for each key, in an order that no CPU cache can predict.
    #[must_use]
    pub fn requests(&self) -> Arc<[Bytes]> {
        shuffled_indices(self.keys.len())
            .into_iter()
            .filter_map(|index| self.keys.get(index))
            .map(|key| key_request(key))
            .collect()
    }

    /// Returns a batch request of the first `size` keys.
    #[must_use]
    pub fn batch_bodies(&self, size: usize) -> Arc<[Bytes]> {
        Arc::new([batch_request(self.keys.get(..size).unwrap_or(&self.keys))])
    }

    /// Returns a stream message for each key.
    #[must_use]
    pub fn messages(&self) -> Arc<[Bytes]> {
        let message = |(number, key): (usize, &String)| {
            let correlation_id = number as u64;
            frame(&v1::StreamValidateKeysRequest { correlation_id, request: Some(validate_request(key)) })
        };
        self.keys.iter().enumerate().map(message).collect()
    }
}

/// Starts a service on a database, with a cache that retains its entries, and with additional settings.
///
/// # Errors
/// Fails if the service does not start.
pub fn start_process(
    program: &Path,
    core: Option<usize>,
    database: &str,
    more: &[(&str, &str)],
) -> anyhow::Result<Process> {
    Process::start(core, program, |command: &mut Command, address: SocketAddr| {
        command.arg("serve").envs([
            ("TENANT_AUTH_LISTEN", address.to_string().as_str()),
            ("TENANT_AUTH_OPS_LISTEN", "off"),
            ("TENANT_AUTH_DATABASE_URL", database),
            ("TENANT_AUTH_CREATE_SCHEMA", "true"),
            ("TENANT_AUTH_WORKERS", "1"),
            ("TENANT_AUTH_LOG", "warn"),
            // Cache hits are measured; reloads of 100,000 keys would be another benchmark. This is the
            // maximum: all rounds of a case must end within four minutes after the keys were loaded.
            ("TENANT_AUTH_CACHE_FRESH", "5m"),
            ("TENANT_AUTH_CACHE_KEYS", "200000"),
        ]);
        command.envs(more.iter().copied());
    })
}

/// Returns a channel to a service once it is ready.
///
/// # Errors
/// Fails if the service cannot be reached, or exits before it is ready.
pub async fn connect_when_ready(process: &Process) -> anyhow::Result<Channel> {
    let channel = Channel::from_shared(format!("http://{}", process.address))?.connect().await?;
    let request = HealthCheckRequest { service: HEALTH_SERVICE_NAME.to_owned() };
    let mut statuses = HealthClient::new(channel.clone()).watch(request).await?.into_inner();
    while let Some(health) = statuses.message().await? {
        if health.status() == ServingStatus::Serving {
            return Ok(channel);
        }
    }
    anyhow::bail!("the service is not ready")
}

/// Creates a tenant and `count` keys: one issued, the others imported.
///
/// # Errors
/// Fails if the service rejects a request.
pub async fn create_keys(channel: &Channel, count: usize) -> anyhow::Result<Vec<String>> {
    let mut admin = AdminServiceClient::new(channel.clone()).max_encoding_message_size(1 << 20);
    let tenant = v1::CreateTenantRequest {
        name: "Acme Corporation".to_owned(),
        plan: "enterprise".to_owned(),
        ..Default::default()
    };
    let tenant = admin.create_tenant(tenant).await?.into_inner().tenant.context("no tenant")?.tenant_id;
    let first = v1::IssueKeyRequest {
        tenant_id: tenant.clone(),
        name: "bench".to_owned(),
        scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
        expires_at: None,
        ..Default::default()
    };
    let mut keys = vec![admin.issue_key(first).await?.into_inner().plaintext];
    while keys.len() < count {
        let new: Vec<_> = (keys.len()..count.min(keys.len() + KEYS_PER_REQUEST)).map(imported_key).collect();
        import_keys(&mut admin, &tenant, &new).await?;
        keys.extend(new);
    }
    Ok(keys)
}

/// Returns a framed batch request.
#[must_use]
pub fn batch_request(keys: &[String]) -> Bytes {
    frame(&v1::BatchValidateKeysRequest { requests: keys.iter().map(|key| validate_request(key)).collect() })
}

/// Returns a framed request for one key.
#[must_use]
pub fn key_request(key: &str) -> Bytes {
    frame(&validate_request(key))
}

async fn import_keys(
    admin: &mut AdminServiceClient<Channel>,
    tenant: &str,
    keys: &[String],
) -> anyhow::Result<()> {
    let key = |key: &String| v1::ImportKey {
        sha256: Sha256::digest(key.as_bytes()).to_vec(),
        tenant_id: tenant.to_owned(),
        name: "bench".to_owned(),
        scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
        ..Default::default()
    };
    let request = v1::ImportKeysRequest { keys: keys.iter().map(key).collect() };
    admin.import_keys(request).await?;
    Ok(())
}

fn validate_request(key: &str) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: vec!["orders:read".to_owned()],
        ..Default::default()
    }
}

/// Returns a key in a foreign format, as long as the service's own keys: 41 characters.
fn imported_key(number: usize) -> String {
    format!("bench-{number:035}")
}

/// Returns the numbers below `count` in a shuffled order, the same on every run (Fisher and Yates).
#[must_use]
pub fn shuffled_indices(count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for index in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(index, (state >> 33) as usize % (index + 1));
    }
    order
}
