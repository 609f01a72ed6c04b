//! `healthcheck`.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tonic::{Request, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{fail, say};

/// Whom to ask, and about what.
#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// The service to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051")]
    endpoint: String,
    /// The health name: empty for the process, tenantauth.v1.ValidationService for readiness, tenantauth.Database
    #[arg(long, value_name = "NAME", default_value = "tenantauth.v1.ValidationService")]
    service: String,
    /// How long to wait for the answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    timeout_ms: u64,
}

pub(super) async fn run(args: HealthArgs) -> ExitCode {
    let timeout = Duration::from_millis(args.timeout_ms);
    let endpoint = match Endpoint::from_shared(args.endpoint.clone()) {
        Ok(endpoint) => endpoint.connect_timeout(timeout).timeout(timeout),
        Err(_) => {
            return fail(2, &format!("{} is no URL such as http://127.0.0.1:50051", args.endpoint));
        }
    };
    let request = Request::new(HealthCheckRequest { service: args.service.clone() });
    let answer = HealthClient::new(endpoint.connect_lazy()).check(request).await;
    match answer.map(|answer| answer.into_inner().status()) {
        Ok(ServingStatus::Serving) => {
            say("SERVING");
            ExitCode::SUCCESS
        }
        Ok(ServingStatus::NotServing) => fail(1, "NOT_SERVING"),
        Ok(ServingStatus::Unknown | ServingStatus::ServiceUnknown) => {
            fail(1, &format!("the service knows nothing of {:?}", args.service))
        }
        Err(status) => fail(1, &format!("{} does not answer: {}", args.endpoint, status.message())),
    }
}
