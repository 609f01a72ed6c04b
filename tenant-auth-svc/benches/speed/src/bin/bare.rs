//! A handler that does nothing, in the service's build and on its transport. The difference to the service is
//! the cost of the decision and of the middleware that every request passes.

use std::net::SocketAddr;

use tenant_auth_bench::empty::EmptyService;
use tenant_auth_proto::v1::validation_service_server::ValidationServiceServer;
use tenant_auth_svc::transport::{PeerRequest, Server, ServerConfig, limits::ConnectionLimits};
use tokio::net::TcpListener;
use tower::ServiceBuilder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args().nth(1).unwrap_or_default().parse()?;
    let routes = tonic::service::Routes::new(ValidationServiceServer::new(EmptyService)).prepare();
    let service = ServiceBuilder::new()
        .map_request(|arrived: PeerRequest| arrived.request.map(tonic::body::Body::new))
        .service(routes);
    let config = ServerConfig { workers: 1, max_connections: 1_000, limits: ConnectionLimits::default() };
    let mut server = Server::start(TcpListener::bind(address).await?, None, service, config)?;
    server.wait_until_drained().await;
    Ok(())
}
