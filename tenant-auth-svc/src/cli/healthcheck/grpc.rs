//! Asks the health service, over gRPC without TLS.

use std::time::Duration;

use tonic::{Request, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::Failure;

pub(super) async fn check(endpoint: &str, service: &str, timeout: Duration) -> Result<String, Failure> {
    let channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|_| Failure::Usage(format!("{endpoint} is no URL such as http://127.0.0.1:50051")))?
        .connect_timeout(timeout)
        .timeout(timeout)
        .connect_lazy();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let answer = HealthClient::new(channel).check(request).await;
    Err(Failure::Unhealthy(match answer.map(|answer| answer.into_inner().status()) {
        Ok(ServingStatus::Serving) => return Ok("SERVING".to_owned()),
        Ok(ServingStatus::NotServing) => "NOT_SERVING".to_owned(),
        Ok(ServingStatus::Unknown | ServingStatus::ServiceUnknown) => {
            format!("the service knows nothing of {service:?}")
        }
        Err(status) => format!("{endpoint} does not answer: {}", status.message()),
    }))
}
