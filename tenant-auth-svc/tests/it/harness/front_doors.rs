//! Requests at the front doors, as proxies send them.

use std::net::SocketAddr;

use tenant_auth_proto::envoy::{
    config::core::v3::{Address, HeaderMap, HeaderValue, HeaderValueOption, SocketAddress, address},
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Peer, Request},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
};
use tenant_auth_svc::{config::Settings, domain::clock::SystemClock};
use tonic::Status;

use super::{TestDatabase, TestService};

/// Every identity header, in lower case.
pub(crate) const IDENTITY_HEADERS: [&str; 9] = [
    "x-tenant-id",
    "x-tenant-name",
    "x-tenant-plan",
    "x-tenant-key-id",
    "x-tenant-scopes",
    "x-tenant-scopes-omitted",
    "x-tenant-expires-at",
    "x-tenant-source",
    "x-tenant-principal",
];

/// Returns the settings of a service with front doors over HTTP.
pub(crate) fn with_forward_address(settings: Settings) -> Settings {
    settings.with_flag("TENANT_AUTH_FORWARD_LISTEN", Some("127.0.0.1:0".to_owned()))
}

/// Starts a service with front doors over HTTP.
pub(crate) async fn start_with_doors(database: &TestDatabase) -> TestService {
    TestService::start_with(with_forward_address(database.settings()), SystemClock::shared()).await
}

/// Returns the address of the front doors over HTTP.
pub(crate) fn forward_address(service: &TestService) -> SocketAddr {
    service.running.forward_address().unwrap()
}

/// Returns the request of a proxy about a request with these headers, on a route with these settings.
pub(crate) fn check_request(headers: &[(&str, &str)], settings: &[(&str, &str)]) -> CheckRequest {
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let http = HttpRequest { method: "GET".to_owned(), headers: owned(headers), ..HttpRequest::default() };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(Request { http: Some(http) }),
            context_extensions: owned(settings),
        }),
    }
}

/// The same with every value of every header by itself.
pub(crate) fn raw_check_request(headers: &[(&str, &str)], settings: &[(&str, &str)]) -> CheckRequest {
    let mut request = check_request(&[], settings);
    let http = request.attributes.as_mut().and_then(|all| all.request.as_mut()?.http.as_mut()).unwrap();
    let header = |(name, value): &(&str, &str)| HeaderValue {
        key: (*name).to_owned(),
        value: String::new(),
        raw_value: value.as_bytes().to_vec(),
    };
    http.header_map = Some(HeaderMap { headers: headers.iter().map(header).collect() });
    request
}

/// Sets the address of the customer.
pub(crate) fn from_address(mut request: CheckRequest, text: &str) -> CheckRequest {
    let socket = SocketAddress { address: text.to_owned(), ..SocketAddress::default() };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    if let Some(attributes) = &mut request.attributes {
        attributes.source = Some(Peer { address: Some(address) });
    }
    request
}

pub(crate) async fn check(service: &TestService, request: CheckRequest) -> Result<CheckResponse, Status> {
    let mut client = AuthorizationClient::new(service.channel.clone());
    Ok(client.check(request).await?.into_inner())
}

/// What a proxy does with a response: the status for the customer, the headers that it sets, and the body.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) removed: Vec<String>,
    pub(crate) body: String,
    pub(crate) is_error_response: bool,
}

impl Checked {
    pub(crate) fn of(response: &CheckResponse) -> Self {
        let is_ok = response.status.as_ref().is_some_and(|status| status.code == 0);
        let pairs = |options: &[HeaderValueOption]| {
            let pair = |option: &HeaderValueOption| {
                assert_eq!(option.append_action, 2, "every header overwrites");
                assert!(option.keep_empty_value);
                let header = option.header.clone().unwrap();
                (header.key, header.value)
            };
            options.iter().map(pair).collect()
        };
        match response.http_response.as_ref().unwrap() {
            HttpResponse::OkResponse(ok) => {
                assert!(is_ok);
                let (headers, removed) = (pairs(&ok.headers), ok.headers_to_remove.clone());
                Self { status: 200, headers, removed, body: String::new(), is_error_response: false }
            }
            kind @ (HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => {
                assert!(!is_ok, "Envoy admits a request whose status is OK");
                Self {
                    status: u16::try_from(denied.status.unwrap().code).unwrap(),
                    headers: pairs(&denied.headers),
                    removed: Vec::new(),
                    body: denied.body.clone(),
                    is_error_response: matches!(kind, HttpResponse::ErrorResponse(_)),
                }
            }
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
