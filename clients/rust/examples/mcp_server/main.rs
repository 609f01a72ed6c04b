//! An MCP server whose tools need keys with scopes.
//!
//! With `cargo run --release -- dev` in another terminal:
//!
//! ```console
//! $ cargo run -p tenant-auth-client --example mcp_server
//! listening on http://127.0.0.1:8082/mcp
//! ```
//!
//! Name this address to an MCP client, and a key with the scopes. The demo key of `dev` has none of them; this issues one:
//! `tenantctl key issue --tenant ten_demo --scope orders:read --scope orders:write`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod app;

use std::{env, error::Error, time::Duration};

use tenant_auth_client::{Client, RecorderSettings, UsageRecorder};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("TENANT_AUTH_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let client = Client::builder(endpoint).user_agent("example-mcp/1.0").connect_lazy()?;
    let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new())?;

    let layer = app::layer(client, recorder.clone(), app::policy()?)?;
    let server = app::serve(|| app::Orders).layer(layer);

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8082".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    axum::serve(listener, server).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    for unsent in recorder.close(Duration::from_secs(5)).await {
        eprintln!("not recorded: {} events of the request {}", unsent.events.len(), unsent.request_id);
    }
    Ok(())
}
