//! Principal tokens of a real service, behind the layer that verifies them.

use axum::{Router, body::Body, routing::any};
use http::{Method, Request, StatusCode, request::Builder};
use tenant_auth_client::{Client, PrincipalRejected, VerifiedPrincipal, VerifyPrincipalLayer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::ServiceExt as _;

use crate::harness::{Service, Stopped, WAIT_TIMEOUT, until};

/// Asks the service as a proxy does, and returns the token.
async fn ask(service: &Service, key: &str) -> String {
    let mut stream = TcpStream::connect(service.running.forward_address().unwrap()).await.unwrap();
    let request = format!(
        "GET /forward-auth?audience=billing HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-api-key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("x-tenant-principal: "));
    line.unwrap_or_default().to_owned()
}

async fn status(layer: &VerifyPrincipalLayer, token: Option<&str>) -> StatusCode {
    status_of(layer, Request::builder().uri("/"), token).await
}

async fn status_of(layer: &VerifyPrincipalLayer, request: Builder, token: Option<&str>) -> StatusCode {
    let tenant = |request: Request<Body>| async move {
        request
            .extensions()
            .get::<VerifiedPrincipal>()
            .map_or("", |found| "acme".min(&found.tenant_id))
            .to_owned()
    };
    let app = Router::new().route("/", any(tenant)).layer(layer.clone());
    let request = token.into_iter().fold(request, |all, token| all.header("x-tenant-principal", token));
    app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
}

/// A proxy that admits a preflight sends the header without a value.
#[tokio::test]
async fn preflight_without_a_token_proceeds_without_a_principal() {
    let client = Client::builder("http://127.0.0.1:1").without_near_cache().connect_lazy().unwrap();
    let layer = VerifyPrincipalLayer::new(client.principal_verifier("billing").unwrap());
    let options = || Request::builder().method(Method::OPTIONS).uri("/");
    let preflight = || {
        options().header("origin", "https://app.example.com").header("access-control-request-method", "POST")
    };
    for token in [None, Some("")] {
        assert_eq!(status_of(&layer, preflight(), token).await, StatusCode::OK);
        assert_eq!(status_of(&layer, options(), token).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(status_of(&layer, preflight(), Some("guess")).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn token_of_the_service_is_verified_until_its_key_ends() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let settings = [
        ("TENANT_AUTH_FORWARD_LISTEN", "127.0.0.1:0"),
        ("TENANT_AUTH_PRINCIPAL_KEYS_FILE", keys.path().to_str().unwrap()),
        ("TENANT_AUTH_PRINCIPAL_ISSUER", "https://auth.example.com"),
    ];
    let (running, folder) = Stopped::new(([127, 0, 0, 1], 0).into()).start_with(&settings).await;
    let endpoint = format!("http://{}", running.address());
    let client = Client::builder(endpoint).timeout(WAIT_TIMEOUT).connect().await.unwrap();
    let service = Service { client, running, folder };
    let key = service.key().await;
    until(async || service.client.watch_state().is_some_and(|state| state.live)).await;

    let token = ask(&service, key.expose()).await;
    let verifier = service.client.principal_verifier("billing").unwrap();
    let principal = verifier.verify(&token, &["orders:read"]).await.unwrap();
    assert_eq!((&*principal.tenant_id, &*principal.plan), ("acme", "pro"));
    let missing = verifier.verify(&token, &["orders:write"]).await.unwrap_err();
    assert_eq!(missing, PrincipalRejected::MissingScopes(vec!["orders:write".to_owned()]));
    let other = service.client.principal_verifier("other").unwrap().verify(&token, &[]).await.unwrap_err();
    assert_eq!(other, PrincipalRejected::Invalid("it is for another audience"));

    let layer = VerifyPrincipalLayer::new(verifier.clone());
    assert_eq!(status(&layer, Some(&token)).await, StatusCode::OK);
    assert_eq!(status(&layer, None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&layer, Some("")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&layer, Some("a.b.c")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&layer.clone().requires("orders:write"), Some(&token)).await, StatusCode::FORBIDDEN);

    // Another client revokes the key, so only the stream of invalidations can tell.
    let other = Client::builder(service.endpoint())
        .without_near_cache()
        .timeout(WAIT_TIMEOUT)
        .connect_lazy()
        .unwrap();
    other.admin().revoke_key(&principal.key_id, "test").await.unwrap();
    until(async || verifier.verify(&token, &[]).await == Err(PrincipalRejected::Outdated)).await;
    assert_eq!(status(&layer, Some(&token)).await, StatusCode::SERVICE_UNAVAILABLE);
}
