//! tonic with its defaults: `#[tokio::main]`, `Server::builder()`, the system's allocator, the default
//! release profile, and a handler that does nothing.

use std::net::SocketAddr;

use tenant_auth_bench::empty::EmptyService;
use tenant_auth_proto::v1::validation_service_server::ValidationServiceServer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).unwrap_or_default().parse()?;
    tonic::transport::Server::builder()
        .add_service(ValidationServiceServer::new(EmptyService))
        .serve(address)
        .await?;
    Ok(())
}
