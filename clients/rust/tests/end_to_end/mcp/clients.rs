//! The example server, driven by the client of the official SDK in both kinds of revisions.

use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{RoleClient, RunningService, ServiceError},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::json;
use tenant_auth_client::{Cost, McpLayer, PresentedKey};

use super::{Shop, app};
use crate::harness::{
    example::Example,
    limits::{limit_requests, take_rest},
    until, usage_sum,
};

/// Without TLS, the client still wants a provider of cryptography.
fn install_provider() {
    _ = rustls::crypto::ring::default_provider().install_default();
}

type Connected = RunningService<RoleClient, ()>;

fn lifecycles() -> [ClientLifecycleMode; 2] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    [ClientLifecycleMode::Initialize, ClientLifecycleMode::Discover { preferred_versions }]
}

async fn connect(url: &str, key: &PresentedKey, lifecycle: ClientLifecycleMode) -> Connected {
    install_provider();
    let config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(key.expose());
    let transport = StreamableHttpClientTransport::from_config(config);
    ().serve_with_lifecycle(transport, lifecycle).await.unwrap()
}

async fn call(client: &Connected, tool: &'static str) -> Result<String, ServiceError> {
    let arguments = json!({"order": 7}).as_object().unwrap().clone();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    Ok(result.content[0].as_text().unwrap().text.clone())
}

#[tokio::test]
async fn example_serves_sdk_clients_of_both_revisions() {
    let shop = Shop::open().await;
    let environment =
        [("TENANT_AUTH_ENDPOINT", shop.service.endpoint()), ("LISTEN", "127.0.0.1:0".to_owned())];
    let mut example =
        Example::start("mcp_server", &environment.each_ref().map(|(name, value)| (*name, value.as_str())));
    let url = example.line().await.strip_prefix("listening on ").unwrap().to_owned();
    for (index, lifecycle) in lifecycles().into_iter().enumerate() {
        let reader = connect(&url, &shop.reader, lifecycle.clone()).await;
        let tools: Vec<_> =
            reader.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name).collect();
        assert_eq!(tools, ["list_orders"], "{lifecycle:?}");
        assert_eq!(call(&reader, "list_orders").await.unwrap(), "orders of acme: 1, 2");
        let error = call(&reader, "refund_order").await.unwrap_err();
        let challenge = error.auth_challenge().unwrap_or_default().to_owned();
        assert_eq!(challenge, "Bearer error=\"insufficient_scope\", scope=\"orders:write\"", "{error:?}");

        let writer = connect(&url, &shop.writer, lifecycle.clone()).await;
        assert_eq!(writer.list_all_tools().await.unwrap().len(), 2, "{lifecycle:?}");
        assert_eq!(call(&writer, "refund_order").await.unwrap(), "refunded order 7 of acme");
        assert_eq!(call(&writer, "list_orders").await.unwrap(), "orders of acme: 1, 2");
        // Only the admitted refunds are recorded.
        let refunds = index as i64 + 1;
        until(async || usage_sum(&shop.service.client, "acme").await == Ok(refunds)).await;
        for client in [reader, writer] {
            client.cancel().await.unwrap();
        }
    }
    assert_eq!(usage_sum(&shop.service.client, "globex").await, Ok(0));
}

#[tokio::test]
async fn sdk_client_without_a_valid_key_is_refused() {
    install_provider();
    let shop = Shop::open().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, shop.router.clone()).into_future());
    for lifecycle in lifecycles() {
        let config =
            StreamableHttpClientTransportConfig::with_uri(url.as_str()).auth_header("some-strange-key");
        let transport = StreamableHttpClientTransport::from_config(config);
        let refused = ().serve_with_lifecycle(transport, lifecycle.clone()).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.auth_challenge(), Some("Bearer error=\"invalid_token\""), "{lifecycle:?}");
    }
}

#[tokio::test]
async fn sdk_clients_of_both_revisions_are_stopped_by_a_limit() {
    let shop = Shop::open().await;
    let client = &shop.service.client;
    limit_requests(client, 100).await;
    let layer = McpLayer::builder(client.clone()).costs([Cost::new("requests", 1)]).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, app::serve(|| app::Orders).layer(layer)).into_future());
    let mut clients = Vec::new();
    for lifecycle in lifecycles() {
        let reader = connect(&url, &shop.reader, lifecycle).await;
        assert_eq!(call(&reader, "list_orders").await.unwrap(), "orders of acme: 1, 2");
        clients.push(reader);
    }
    let rest = take_rest(client, &shop.writer).await;
    // Each client has sent a request to open and one to call, at least.
    assert!((1..=96).contains(&rest), "{rest}");
    for client in clients {
        let refused = call(&client, "list_orders").await.unwrap_err();
        assert!(format!("{refused:?}").contains("429"), "{refused:?}");
    }
}
