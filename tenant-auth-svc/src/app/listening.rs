//! The server: its limits, its layers, its services.

use std::{net::SocketAddr, time::Duration};

use tenant_auth_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        admin_service_server::AdminServiceServer, info_service_server::InfoServiceServer,
        session_service_server::SessionServiceServer, usage_service_server::UsageServiceServer,
        validation_service_server::ValidationServiceServer, watch_service_server::WatchServiceServer,
    },
};
use tokio::{net::TcpListener, sync::watch};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::ServiceBuilder;

use super::{Database, Memories, Memory, SessionMemory, StartError};
use crate::{
    config::ListenConfig,
    freshness::hub::Hub,
    grpc::{AdminRpc, InfoRpc, SessionRpc, UsageRpc, ValidationRpc, WatchRpc, places::Places},
    layer::{
        access_log::AccessLogLayer, catch_panic, deadline::DeadlineLayer, identify::IdentifyLayer,
        shed::ShedLayer,
    },
    store::grouped::Grouped,
};

/// The largest request where one key is in it.
const SMALL: usize = 64 * 1024;
/// The largest request where many may be in it.
const LARGE: usize = 1024 * 1024;
/// Requests at once on one connection.
const STREAMS: u32 = 200;
/// The largest request head.
const HEADERS: u32 = 16 * 1024;

/// Everything that is served.
pub(super) struct Services {
    pub(super) validation: ValidationRpc<Database, Memory, SessionMemory>,
    pub(super) admin: AdminRpc<Database, Memories>,
    pub(super) info: InfoRpc,
    pub(super) session: SessionRpc<Database, Memory, SessionMemory>,
    pub(super) usage: UsageRpc<Grouped, Database>,
    pub(super) watch: WatchRpc<Hub>,
    pub(super) health: HealthReporter,
}

/// A bound address, not served yet.
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    incoming: TcpIncoming,
    places: Places,
}

/// Takes the address, so that a second service on it is refused before anything else happens.
pub(super) async fn bind(config: &ListenConfig) -> Result<Listener, StartError> {
    let address = config.address;
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Listener {
        address,
        incoming: TcpIncoming::from(listener).with_nodelay(Some(true)),
        places: Places::new(config.max_requests),
    })
}

impl Listener {
    /// Serves until told to stop, then lets requests under way end.
    pub(super) async fn serve(
        self,
        services: Services,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that tools show the details of an error in words.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        // Both: tools from before 2023 know only v1alpha. Without them the service is as good, only less friendly.
        let v1 = reflection().build_v1().inspect_err(no_reflection).ok();
        let v1alpha = reflection().build_v1alpha().inspect_err(no_reflection).ok();

        // Outermost first.
        let layers = ServiceBuilder::new()
            .layer(IdentifyLayer)
            .layer(AccessLogLayer)
            .layer(catch_panic::layer())
            .layer(ShedLayer::new(self.places))
            .layer(DeadlineLayer);

        Server::builder()
            // tonic passes "no limit" where hyper's own default would be a limit.
            .max_concurrent_streams(STREAMS)
            .http2_max_local_error_reset_streams(Some(1_024))
            .http2_max_header_list_size(HEADERS)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .layer(layers)
            .add_service(ValidationServiceServer::new(services.validation).max_decoding_message_size(LARGE))
            .add_service(AdminServiceServer::new(services.admin).max_decoding_message_size(LARGE))
            .add_service(InfoServiceServer::new(services.info).max_decoding_message_size(SMALL))
            .add_service(SessionServiceServer::new(services.session).max_decoding_message_size(SMALL))
            .add_service(UsageServiceServer::new(services.usage).max_decoding_message_size(LARGE))
            .add_service(WatchServiceServer::new(services.watch).max_decoding_message_size(SMALL))
            .add_service(HealthServer::new(HealthService::from_health_reporter(services.health)))
            .add_optional_service(v1)
            .add_optional_service(v1alpha)
            .serve_with_incoming_shutdown(self.incoming, async move {
                // An error means that whoever could tell is gone: stop as well.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            })
            .await
    }
}

fn no_reflection(error: &tonic_reflection::server::Error) {
    tracing::error!(%error, "the contract's descriptors cannot be read: there is no reflection");
}
