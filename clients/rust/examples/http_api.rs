//! An HTTP API whose requests require a key.
//!
//! With `cargo run --release -- dev` in another terminal:
//!
//! ```console
//! $ cargo run -p tenant-auth-client --example http_api
//! listening on http://127.0.0.1:8081
//! $ curl -H "authorization: Bearer $(cat .tenant-auth/demo-key)" 127.0.0.1:8081/whoami
//! ten_demo on the plan demo
//! ```
#![allow(clippy::print_stdout)]

use std::{env, error::Error};

use axum::{Extension, Router, routing::get};
use tenant_auth_client::{AuthenticateLayer, Client, Principal};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let endpoint = env::var("TENANT_AUTH_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let client = Client::builder(endpoint).user_agent("example-api/1.0").connect_lazy()?;

    let authenticated = AuthenticateLayer::new(client);
    let reads =
        Router::new().route("/whoami", get(whoami)).route_layer(authenticated.clone().requires("demo:read"));
    let deletes = Router::new()
        .route("/everything", get(async || "gone\n"))
        .route_layer(authenticated.requires("demo:delete"));

    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8081".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, reads.merge(deletes)).await?;
    Ok(())
}

/// The layer has admitted the request, so its principal is known.
async fn whoami(Extension(principal): Extension<Principal>) -> String {
    format!("{} on the plan {}\n", principal.tenant_id(), principal.plan())
}
