//! Asks the health service, over gRPC without TLS.

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
        let message = format!("--endpoint {endpoint} is no URL such as http://127.0.0.1:50051");
        return Err(HealthcheckError::Usage(message));
    };
    if uri.scheme_str() == Some("https") {
        let message = format!("--endpoint {endpoint}: gRPC is asked without TLS here; {ASK_OPS_HINT}");
        return Err(HealthcheckError::Usage(message));
    }
    let channel = Endpoint::from(uri.clone()).connect_timeout(timeout).timeout(timeout).connect_lazy();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let answer = HealthClient::new(channel).check(request).await;
    Err(HealthcheckError::Unhealthy(match answer.map(|answer| answer.into_inner().status()) {
        Ok(ServingStatus::Serving) => return Ok("SERVING".to_owned()),
        Ok(ServingStatus::NotServing) => "NOT_SERVING".to_owned(),
        Ok(ServingStatus::Unknown) => format!("UNKNOWN: {service} has not been tried yet"),
        Ok(ServingStatus::ServiceUnknown) => format!("the service knows nothing of {service:?}"),
        Err(_) if is_encrypted(&uri, timeout).await => {
            format!("{endpoint} is encrypted, and gRPC is asked without TLS here; {ASK_OPS_HINT}")
        }
        Err(status) => format!("{endpoint} does not answer: {}", status.message()),
    }))
}

/// What to do where gRPC is encrypted.
const ASK_OPS_HINT: &str =
    "without --endpoint and --service, the port for operators is asked (TENANT_AUTH_OPS_LISTEN)";

/// Whether TLS is spoken there: to what is not, a server of it answers with an alert.
async fn is_encrypted(uri: &Uri, timeout: Duration) -> bool {
    const ALERT: u8 = 0x15;
    let asked = async {
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await.ok()?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(timeout, asked).await.ok().flatten() == Some(ALERT)
}
