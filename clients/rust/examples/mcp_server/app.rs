//! The MCP server: two tools for different scopes, behind the layer.

use std::sync::Arc;

use axum::Router;
use http::request::Parts;
use rmcp::{
    ErrorData, ServerHandler,
    handler::server::{tool::Extension, wrapper::Parameters},
    model::{ServerCapabilities, ServerConfig, SubscriptionFilter},
    schemars::{self, JsonSchema},
    service::SubscriptionContext,
    tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::Deserialize;
use tenant_auth_client::{Client, Error, McpLayer, McpPolicy, Principal, UsageRecorder};

/// The tools of a shop.
#[derive(Clone)]
pub(crate) struct Orders;

#[derive(Deserialize, JsonSchema)]
struct Refund {
    /// The number of the order.
    order: u32,
}

#[tool_router]
impl Orders {
    #[tool(description = "Lists the orders of the tenant")]
    async fn list_orders(&self, Extension(parts): Extension<Parts>) -> Result<String, ErrorData> {
        Ok(format!("orders of {}: 1, 2", principal(&parts)?.tenant_name()))
    }

    #[tool(description = "Refunds an order")]
    async fn refund_order(
        &self,
        Extension(parts): Extension<Parts>,
        Parameters(Refund { order }): Parameters<Refund>,
    ) -> Result<String, ErrorData> {
        Ok(format!("refunded order {order} of {}", principal(&parts)?.tenant_name()))
    }
}

#[tool_handler]
impl ServerHandler for Orders {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build())
    }

    /// Clients may subscribe to changes of the list of tools, which this server does not make.
    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        context.cancelled().await;
        Ok(())
    }
}

/// Returns the owner of the key of the current request.
fn principal(parts: &Parts) -> Result<&Principal, ErrorData> {
    Principal::of(&parts.extensions).ok_or_else(|| ErrorData::internal_error("the layer is missing", None))
}

/// Returns the rules of the tools.
pub(crate) fn policy() -> Result<McpPolicy, Error> {
    McpPolicy::from_json(include_str!("policy.json"))
}

/// Returns the layer before the tools.
pub(crate) fn layer(client: Client, recorder: UsageRecorder, policy: McpPolicy) -> Result<McpLayer, Error> {
    McpLayer::builder(client)
        .or_header(http::HeaderName::from_static("x-api-key"))
        .policy(policy)
        .usage(recorder)
        .build()
}

/// Serves the tools of a handler at `/mcp`, for clients of all revisions.
pub(crate) fn serve<H>(handler: impl Fn() -> H + Send + Sync + 'static) -> Router
where
    H: ServerHandler + Send + 'static,
{
    let sessions = Arc::new(LocalSessionManager::default());
    let service =
        StreamableHttpService::new(move || Ok(handler()), sessions, StreamableHttpServerConfig::default());
    Router::new().route_service("/mcp", service)
}
