//! The gRPC server: its services and its middleware.

use std::{net::SocketAddr, sync::Arc};

use tenant_auth_proto::{
    FILE_DESCRIPTOR_SET,
    envoy::service::auth::v3::authorization_server::AuthorizationServer,
    v1::{
        admin_service_server::AdminServiceServer, info_service_server::InfoServiceServer,
        limit_service_server::LimitServiceServer, session_service_server::SessionServiceServer,
        usage_service_server::UsageServiceServer, validation_service_server::ValidationServiceServer,
        watch_service_server::WatchServiceServer,
    },
};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::ServiceBuilder;

use super::StartError;
use crate::{
    change_feed::hub::Hub,
    config::ListenConfig,
    console::rpc::InProcessRpc,
    domain::{limit::consume::KeyConsumer, validate::Validator},
    fast_path::{FastPath, cache_responder::CacheResponder},
    forward::check::CheckResponder,
    grpc::{AdminRpc, InfoRpc, LimitRpc, SessionRpc, UsageRpc, ValidationRpc, WatchRpc, limiters::Limiters},
    middleware::{
        authorize::AuthorizeLayer,
        catch_panic,
        deadline::DeadlineLayer,
        identify::{CallerDirectory, IdentifyLayer},
        malformed::RejectMalformedLayer,
        message_memory::MessageMemoryLayer,
        metrics::RpcMetrics,
        observability::RpcObserverLayer,
        recheck::RecheckLayer,
        shed::ShedLayer,
        trace::TraceLayer,
    },
    service_types::{
        AllCaches, ChangeFeed, KeyRecordCache, RecoveryStore, ServiceLimits, ServiceStore, SessionRecordCache,
    },
    telemetry::{process::ProcessStats, traces::RequestTracer},
    transport::{Server, ServerConfig, descriptors, tls::Certificates},
    usage_batcher::UsageBatcher,
};

/// The gRPC services.
pub(super) struct Services {
    pub(super) fast_path_validator: Arc<Validator<KeyRecordCache>>,
    pub(super) key_consumer: Arc<KeyConsumer<KeyRecordCache, ServiceLimits>>,
    pub(super) limit: LimitRpc<ServiceStore, KeyRecordCache, SessionRecordCache, ServiceLimits>,
    pub(super) check: CheckResponder<KeyRecordCache>,
    pub(super) validation: ValidationRpc<ServiceStore, KeyRecordCache, SessionRecordCache>,
    pub(super) admin: AdminRpc<ServiceStore, AllCaches, RecoveryStore, Arc<ChangeFeed>>,
    pub(super) info: InfoRpc,
    pub(super) session: SessionRpc<ServiceStore, KeyRecordCache, SessionRecordCache>,
    pub(super) usage: UsageRpc<UsageBatcher, ServiceStore>,
    pub(super) watch: WatchRpc<Hub>,
    pub(super) health: HealthReporter,
}

/// Instrumentation of the services.
pub(super) struct Instrumentation {
    pub(super) rpc_metrics: Arc<RpcMetrics>,
    /// `None` if no request is traced.
    pub(super) request_tracer: Option<RequestTracer>,
}

/// A bound address that is not served yet.
pub(super) struct GrpcListener {
    pub(super) address: SocketAddr,
    pub(super) limiters: Limiters,
    /// Maximum number of ops connections (health and metrics).
    pub(super) max_ops_connections: usize,
    /// Maximum number of connections of proxies over HTTP, if they have an address.
    pub(super) max_forward_connections: usize,
    listener: TcpListener,
    config: ServerConfig,
}

/// Binds the address first, so that a second service on it fails before anything else happens.
pub(super) async fn bind(
    config: &ListenConfig,
    has_forward_address: bool,
) -> Result<GrpcListener, StartError> {
    let address = config.address;
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let limiters = Limiters::new(config.max_requests, config.max_streams, config.caller_share);
    let (config, budget) = limit_to_descriptors(config.server, has_forward_address);
    Ok(GrpcListener {
        address,
        limiters,
        max_ops_connections: budget.ops,
        max_forward_connections: budget.forward,
        listener,
        config,
    })
}

/// File descriptors that each worker opens, and that the process opens in addition before the first connection.
const RESERVED_DESCRIPTORS: (u64, u64) = (4, 24);

/// Limits the number of connections to the available file descriptors.
fn limit_to_descriptors(
    mut config: ServerConfig,
    has_forward_address: bool,
) -> (ServerConfig, descriptors::DescriptorBudget) {
    let limit = descriptors::raise_limit();
    let open = ProcessStats::read().open_fds.unwrap_or_default() as u64;
    let (per_worker, other) = RESERVED_DESCRIPTORS;
    let open = open + per_worker * config.workers as u64 + other;
    let budget = descriptors::DescriptorBudget::split(limit.unwrap_or(u64::MAX), open, has_forward_address);
    if budget.connections < config.max_connections {
        let (wanted, connections) = (config.max_connections, budget.connections);
        tracing::warn!(
            wanted,
            connections,
            file_descriptors = limit,
            "too few file descriptors for TENANT_AUTH_MAX_CONNECTIONS: the connection limit is lowered; raise the hard limit \
             (ulimit -Hn, LimitNOFILE)"
        );
        config.max_connections = connections;
    }
    (config, budget)
}

impl GrpcListener {
    /// Starts to serve. Also returns the services for calls of this process, behind the same middleware.
    ///
    /// # Errors
    /// [`StartError::Threads`] when the worker threads cannot be started.
    pub(super) fn serve(
        self,
        services: Services,
        instrumentation: Instrumentation,
        callers: CallerDirectory,
        certificates: Option<Arc<Certificates>>,
    ) -> Result<(Server, InProcessRpc), StartError> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that tools decode the details of an error.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let mut routes = Routes::builder();
        routes
            .add_service(ValidationServiceServer::new(services.validation))
            .add_service(AuthorizationServer::new(services.check.clone()))
            .add_service(AdminServiceServer::new(services.admin))
            .add_service(InfoServiceServer::new(services.info))
            .add_service(LimitServiceServer::new(services.limit))
            .add_service(SessionServiceServer::new(services.session))
            .add_service(UsageServiceServer::new(services.usage))
            .add_service(WatchServiceServer::new(services.watch))
            .add_service(HealthServer::new(HealthService::from_health_reporter(services.health)));
        // Both versions: tools from before 2023 know only v1alpha. Reflection is a convenience: the service starts
        // without it.
        if let Ok(v1) = reflection().build_v1().inspect_err(log_reflection_error) {
            routes.add_service(v1);
        }
        if let Ok(v1alpha) = reflection().build_v1alpha().inspect_err(log_reflection_error) {
            routes.add_service(v1alpha);
        }

        let cache_responder =
            CacheResponder::new(services.fast_path_validator, services.key_consumer, services.check);
        // Outermost first.
        let stack = ServiceBuilder::new()
            .layer(IdentifyLayer::new(callers.clone()))
            .layer(TraceLayer::new(instrumentation.request_tracer.clone()))
            .layer(RpcObserverLayer::new(Arc::clone(&instrumentation.rpc_metrics)))
            .layer(catch_panic::layer())
            .layer(ShedLayer::new(self.limiters.clone()))
            .layer(MessageMemoryLayer::new(self.limiters))
            .layer(DeadlineLayer)
            .layer(RecheckLayer::new(callers.clone()))
            .layer(AuthorizeLayer)
            .layer(RejectMalformedLayer)
            .service(routes.routes().prepare());
        let in_process = InProcessRpc::new(stack.clone());
        let service = FastPath::new(
            cache_responder,
            callers,
            instrumentation.rpc_metrics,
            instrumentation.request_tracer,
            stack,
        );
        let server = Server::start(self.listener, certificates, service, self.config);
        Ok((server.map_err(StartError::Threads)?, in_process))
    }
}

fn log_reflection_error(error: &tonic_reflection::server::Error) {
    tracing::error!(%error, "gRPC reflection is unavailable: its descriptors are invalid");
}
