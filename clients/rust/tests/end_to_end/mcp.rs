//! MCP servers behind the layer, with the real service and the clients of the official SDK.

mod clients;
mod conformance;
mod fixtures;
mod handles;
mod sessions;
mod streams;

#[path = "../../examples/mcp_server/app.rs"]
mod app;

use axum::{Router, body::Body};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenant_auth_client::{
    Client, McpPolicy, PresentedKey, Principal, RecorderSettings, UsageRecorder, proto as v1,
};
use tower::ServiceExt as _;

use crate::harness::Service;

/// Tenants with keys, and the server of the example in this process.
struct Shop {
    service: Service,
    recorder: UsageRecorder,
    router: Router,
    /// Holds `orders:read`.
    reader: PresentedKey,
    /// Holds `orders:read` and `orders:write`.
    writer: PresentedKey,
    /// As the reader, but of another tenant.
    foreign: PresentedKey,
}

impl Shop {
    async fn open() -> Self {
        let service = Service::start().await;
        let client = &service.client;
        for tenant in ["acme", "globex"] {
            create_tenant(client, tenant).await;
        }
        let reader = issue_key(client, "acme", &["orders:read"]).await;
        let writer = issue_key(client, "acme", &["orders:read", "orders:write"]).await;
        let foreign = issue_key(client, "globex", &["orders:read"]).await;
        let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new()).unwrap();
        let router = router(client, &recorder, app::policy().unwrap());
        Self { service, recorder, router, reader, writer, foreign }
    }

    /// Returns the principal of a key, as a tool gets it.
    async fn principal(&self, key: &PresentedKey) -> Principal {
        let key = PresentedKey::new(key.expose());
        self.service.client.require_guardable(key, &[]).await.unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Opens a session of the revision 2025-11-25, and returns its id.
    async fn open_session(&self, key: &PresentedKey) -> String {
        let response = self.send(post(key, &[], &initialize())).await;
        assert_eq!(response.status(), 200);
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        response.into_body().collect().await.unwrap();
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let response = self.send(post(key, &[("mcp-session-id", &id)], &initialized)).await;
        assert_eq!(response.status(), 202);
        id
    }
}

fn router(client: &Client, recorder: &UsageRecorder, policy: McpPolicy) -> Router {
    app::serve(|| app::Orders).layer(app::layer(client.clone(), recorder.clone(), policy).unwrap())
}

async fn create_tenant(client: &Client, tenant_id: &str) {
    let request = v1::CreateTenantRequest {
        tenant_id: tenant_id.to_owned(),
        name: tenant_id.to_owned(),
        plan: "pro".to_owned(),
    };
    client.admin().create_tenant(request).await.unwrap();
}

async fn issue_key(client: &Client, tenant_id: &str, scopes: &[&str]) -> PresentedKey {
    let request = v1::IssueKeyRequest {
        tenant_id: tenant_id.to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..Default::default()
    };
    client.admin().issue_key(request).await.unwrap().plaintext
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    }})
}

fn call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": {"order": 1}}})
}

fn post(key: &PresentedKey, headers: &[(&str, &str)], message: &Value) -> Request<Body> {
    let request = request("POST", key, headers).header("content-type", "application/json");
    request.body(Body::from(message.to_string())).unwrap()
}

fn request(method: &str, key: &PresentedKey, headers: &[(&str, &str)]) -> http::request::Builder {
    let builder = Request::builder()
        .method(method)
        .uri("/mcp")
        .header("host", "localhost")
        .header("accept", "application/json, text/event-stream")
        .header("authorization", format!("Bearer {}", key.expose()));
    headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value))
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
