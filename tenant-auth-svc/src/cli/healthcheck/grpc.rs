//! Queries the gRPC health service, without TLS.

use std::time::Duration;

use http::Uri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Request, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::HealthcheckError;

pub(super) async fn check(
    endpoint: &str,
    service: &str,
    timeout: Duration,
) -> Result<String, HealthcheckError> {
    let uri = endpoint.parse::<Uri>().ok().filter(|uri| uri.authority().is_some());
    let Some(uri) = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https"))) else {
        let message = format!("--endpoint {endpoint}: invalid URL; use for example http://127.0.0.1:50051");
        return Err(HealthcheckError::Usage(message));
    };
    if uri.scheme_str() == Some("https") {
        let message =
            format!("--endpoint {endpoint}: this command queries gRPC only without TLS; {ASK_OPS_HINT}");
        return Err(HealthcheckError::Usage(message));
    }
    let channel = Endpoint::from(uri.clone()).connect_timeout(timeout).timeout(timeout).connect_lazy();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let response = HealthClient::new(channel).check(request).await;
    Err(HealthcheckError::Unhealthy(match response.map(|response| response.into_inner().status()) {
        Ok(ServingStatus::Serving) => return Ok("SERVING".to_owned()),
        Ok(ServingStatus::NotServing) => "NOT_SERVING".to_owned(),
        Ok(ServingStatus::Unknown) => format!("UNKNOWN: {service} has not been used yet"),
        Ok(ServingStatus::ServiceUnknown) => format!("unknown health name {service:?}"),
        Err(_) if is_encrypted(&uri, timeout).await => {
            format!("{endpoint} requires TLS, but this command queries gRPC only without TLS; {ASK_OPS_HINT}")
        }
        Err(status) => format!("{endpoint} does not respond: {}", status.message()),
    }))
}

/// Advice for a service with TLS on gRPC.
const ASK_OPS_HINT: &str =
    "without --endpoint and --service, it queries the ops port (TENANT_AUTH_OPS_LISTEN)";

/// Whether the server speaks TLS: a TLS server responds to plaintext with an alert.
async fn is_encrypted(uri: &Uri, timeout: Duration) -> bool {
    const ALERT: u8 = 0x15;
    let first_byte = async {
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.ok()?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(timeout, first_byte).await.ok().flatten() == Some(ALERT)
}
