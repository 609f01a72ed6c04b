//! The replicas behind an endpoint.

use std::{
    future::Future,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tenant_auth_client::{Client, Error};
use tokio::task::JoinSet;

use super::Context;
use crate::{
    failure::{ErrorReport, Failure, FieldNames, RequestContext, is_secure},
    probe,
};

/// A replica, and the name in its certificate if that is not the host of its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) endpoint: String,
    server_name: Option<String>,
}

/// Returns a client of each given replica, or of each replica behind --endpoint if none is given. `timeout` is that of a
/// call.
pub(super) async fn clients(
    context: &Context,
    given: &[String],
    timeout: Duration,
) -> Result<Vec<(Replica, Client)>, Failure> {
    let endpoint = &context.globals.endpoint;
    let replicas = if given.is_empty() {
        resolve_replicas(endpoint, context.globals.timeout).await?
    } else {
        given.iter().map(|address| Replica::parse(address, endpoint)).collect::<Result<_, _>>()?
    };
    let client = |replica: Replica| {
        let client = context.client_for(&replica.endpoint, replica.server_name.as_deref(), timeout)?;
        Ok((replica, client))
    };
    replicas.into_iter().map(client).collect()
}

/// Sends a request to all replicas at once and returns their answers in order. An invalid request fails for all of them.
pub(super) async fn ask_all<T, F>(
    clients: &[(Replica, Client)],
    field_names: FieldNames,
    request: impl Fn(Client) -> F,
) -> Result<Vec<Result<T, Failure>>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut requests = JoinSet::new();
    for (index, (_, client)) in clients.iter().enumerate() {
        let answer = request(client.clone());
        requests.spawn(async move { (index, answer.await) });
    }
    let mut answers: Vec<_> = clients.iter().map(|_| None).collect();
    while let Some(answer) = requests.join_next().await {
        let (index, answer) = answer.map_err(|error| Failure::Unexpected(error.to_string()))?;
        match answer {
            Err(error @ (Error::Invalid { .. } | Error::Setup { .. })) => {
                return Err(Failure::from_service(field_names)(error));
            }
            answer => {
                if let Some(slot) = answers.get_mut(index) {
                    *slot = Some(answer.map_err(Failure::from_service(field_names)));
                }
            }
        }
    }
    let missing = || Err(Failure::Unexpected("the request was not sent".to_owned()));
    Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
}

/// Resolves all addresses of the host of an endpoint.
async fn resolve_replicas(endpoint: &str, timeout: Duration) -> Result<Vec<Replica>, Failure> {
    let (host, port) = probe::host_and_port(endpoint)
        .ok_or_else(|| Failure::usage(format!("--endpoint: {endpoint} has no host to resolve")))?;
    let unresolved = |reason: String| {
        Failure::from_service(&[])(Error::Unreachable { message: format!("cannot resolve {host}: {reason}") })
    };
    let lookup = tokio::time::timeout(timeout, tokio::net::lookup_host((host, port))).await;
    let addresses = lookup.map_err(|_| unresolved("no response within the timeout".to_owned()))?;
    let mut addresses: Vec<_> = addresses.map_err(|error| unresolved(error.to_string()))?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(unresolved("the name has no address".to_owned()));
    }
    let scheme = if is_secure(endpoint) { "https" } else { "http" };
    let server_name = server_name(endpoint);
    let replica =
        |address| Replica { endpoint: format!("{scheme}://{address}"), server_name: server_name.clone() };
    Ok(addresses.into_iter().map(replica).collect())
}

/// Returns the name that the certificates of an encrypted endpoint must have; `None` for an address.
fn server_name(endpoint: &str) -> Option<String> {
    let (host, _) = probe::host_and_port(endpoint).filter(|_| is_secure(endpoint))?;
    host.parse::<IpAddr>().is_err().then(|| host.to_owned())
}

impl Replica {
    /// Parses the value of `--replica`.
    fn parse(text: &str, endpoint: &str) -> Result<Self, Failure> {
        let invalid = || {
            Failure::usage(format!(
                "--replica: invalid replica {text}: must be a host or an address, such as 10.0.0.7, [fd00::7]:50051 or https://replica-1:50051"
            ))
        };
        let text = text.trim_end_matches('/');
        if text.is_empty() {
            return Err(invalid());
        }
        let default_port = probe::host_and_port(endpoint).map_or(50_051, |(_, port)| port);
        let replica_endpoint = if text.contains("://") {
            text.to_owned()
        } else {
            let scheme = if is_secure(endpoint) { "https" } else { "http" };
            let is_bare_v6 = text.parse::<Ipv6Addr>().is_ok();
            let has_port = !is_bare_v6 && text.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
            let host = if is_bare_v6 { format!("[{text}]") } else { text.to_owned() };
            if has_port { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{default_port}") }
        };
        let (host, _) = probe::host_and_port(&replica_endpoint)
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(invalid)?;
        // Certificates are rarely issued for an address.
        let is_address = host.parse::<IpAddr>().is_ok();
        let server_name = server_name(endpoint).filter(|_| is_address && is_secure(&replica_endpoint));
        Ok(Self { endpoint: replica_endpoint, server_name })
    }
}

impl Context {
    /// Returns the error report of a failure of another endpoint than --endpoint.
    pub(super) fn report_for(&self, failure: &Failure, endpoint: &str) -> ErrorReport {
        failure.report(&RequestContext { endpoint, ..self.globals.request_context() }, None, &self.request_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_inherits_scheme_and_port_from_endpoint() {
        let parse = |text, endpoint| Replica::parse(text, endpoint).unwrap();
        for (text, endpoint, expected, server_name) in [
            ("10.0.0.7", "http://auth:50051", "http://10.0.0.7:50051", None),
            ("replica-1:7", "http://auth:50051", "http://replica-1:7", None),
            ("10.0.0.7", "https://auth.internal:8443", "https://10.0.0.7:8443", Some("auth.internal")),
            ("fd00::7", "https://auth.internal", "https://[fd00::7]:443", Some("auth.internal")),
            ("[fd00::7]:7", "https://auth.internal", "https://[fd00::7]:7", Some("auth.internal")),
            ("https://replica-1:7/", "https://auth.internal", "https://replica-1:7", None),
            ("http://10.0.0.7:7", "https://auth.internal", "http://10.0.0.7:7", None),
            ("10.0.0.7", "https://10.0.0.1:7", "https://10.0.0.7:7", None),
        ] {
            let server_name = server_name.map(str::to_owned);
            let expected = Replica { endpoint: expected.to_owned(), server_name };
            assert_eq!(parse(text, endpoint), expected, "{text} {endpoint}");
        }
        for text in ["", "://", "host:port"] {
            assert!(Replica::parse(text, "http://auth:50051").is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn name_resolves_to_each_address_once() {
        let replicas = resolve_replicas("https://localhost:7", Duration::from_secs(5)).await.unwrap();
        assert!(!replicas.is_empty());
        for replica in &replicas {
            assert_eq!(replica.server_name.as_deref(), Some("localhost"));
            assert!(["https://127.0.0.1:7", "https://[::1]:7"].contains(&&*replica.endpoint), "{replica:?}");
        }
    }
}
