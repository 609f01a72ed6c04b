//! `healthcheck`: queries the health of a running service.

mod grpc;
mod http;

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{fail, print_line};
use crate::config::{OpsConfig, Settings};

/// What to query.
///
/// Queries `/readyz` on the ops port (TENANT_AUTH_OPS_LISTEN), which is available whether or not gRPC is encrypted.
/// Queries gRPC, without TLS, if --endpoint or --service is given, or if the ops port is off.
#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// The gRPC endpoint to query [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The health name to query over gRPC: empty for the process, tenantauth.Database for reads of the database,
    /// tenantauth.DatabaseWrites for writes, or tenantauth.v1.ValidationService for readiness, which is the default
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Timeout of the query, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: u64,
}

/// Why a health check failed.
enum HealthcheckError {
    /// The command line or the configuration is invalid.
    Usage(String),
    /// The service reports not healthy, or does not respond.
    Unhealthy(String),
}

pub(super) async fn run(args: HealthArgs) -> ExitCode {
    match check(args).await {
        Ok(answer) => {
            print_line(&answer);
            ExitCode::SUCCESS
        }
        Err(HealthcheckError::Usage(message)) => fail(2, &message),
        Err(HealthcheckError::Unhealthy(message)) => fail(1, &message),
    }
}

async fn check(args: HealthArgs) -> Result<String, HealthcheckError> {
    let timeout = Duration::from_millis(args.timeout_ms);
    if args.endpoint.is_none() && args.service.is_none() {
        let listen = OpsConfig::read_listen_only(Settings::from_environment());
        if let Some(listen) = listen.map_err(|invalid| HealthcheckError::Usage(invalid.to_string()))? {
            return http::check(listen, timeout).await;
        }
    }
    let endpoint = args.endpoint.as_deref().unwrap_or("http://127.0.0.1:50051");
    let service = args.service.as_deref().unwrap_or("tenantauth.v1.ValidationService");
    grpc::check(endpoint, service, timeout).await
}
