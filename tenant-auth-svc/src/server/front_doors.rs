//! The front doors: what decides at them, and the listener of those over HTTP.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{StartError, http_server::HttpServer};
use crate::{
    config::FrontDoorsConfig,
    domain::{clock::SharedClock, network::TrustedProxies, validate::Validator},
    forward::{
        check::CheckResponder,
        counts::DoorCounts,
        door::FrontDoor,
        http::{self, ForwardListener, HttpDoors},
        principal::PrincipalTokens,
    },
    grpc::limiters::Limiters,
    middleware::{identify::CallerDirectory, metrics::RpcMetrics},
    service_types::KeyRecordCache,
    transport::tls::Certificates,
};

/// The front doors before they are served.
pub(super) struct FrontDoors {
    pub(super) check: CheckResponder<KeyRecordCache>,
    pub(super) counts: Arc<DoorCounts>,
    pub(super) tokens: Arc<PrincipalTokens>,
    /// The file with the keys that sign principal tokens.
    pub(super) keys_file: Option<PathBuf>,
    door: Arc<FrontDoor<KeyRecordCache>>,
    listener: Option<ForwardListener>,
    trusted_peers: TrustedProxies,
}

impl FrontDoors {
    /// Binds the address, if there is one. A token is signed once per `fresh`; a decision may take `timeout`.
    ///
    /// # Errors
    /// [`StartError::ForwardListen`].
    pub(super) async fn bind(
        config: FrontDoorsConfig,
        validator: Arc<Validator<KeyRecordCache>>,
        (fresh, timeout): (Duration, Duration),
        clock: &SharedClock,
    ) -> Result<Self, StartError> {
        let listener = match config.listen {
            None => None,
            Some(address) => {
                let bound = http::bind(address).await;
                Some(bound.map_err(|source| StartError::ForwardListen { address, source })?)
            }
        };
        let (keys_file, tokens) = match config.principal {
            Some(principal) => {
                let tokens =
                    PrincipalTokens::new(&principal.issuer, principal.keys, fresh, Arc::clone(clock));
                (Some(principal.keys_file), Arc::new(tokens))
            }
            None => (None, Arc::new(PrincipalTokens::disabled())),
        };
        let door = Arc::new(FrontDoor::new(validator, config.key_headers, Arc::clone(&tokens), timeout));
        let counts = Arc::new(DoorCounts::default());
        Ok(Self {
            check: CheckResponder::new(Arc::clone(&door), Arc::clone(&counts), config.undecided_as),
            counts,
            tokens,
            keys_file,
            door,
            listener,
            trusted_peers: config.trusted_peers,
        })
    }

    /// Starts the HTTP server, if it has an address.
    pub(super) fn serve(
        self,
        callers: CallerDirectory,
        certificates: Option<Arc<Certificates>>,
        (limiters, max_connections): (Limiters, usize),
        rpc_metrics: Arc<RpcMetrics>,
    ) -> Option<HttpServer> {
        let listener = self.listener?;
        let doors = HttpDoors {
            door: self.door,
            callers,
            limiters,
            trusted_peers: self.trusted_peers,
            counts: self.counts,
            rpc_metrics,
        };
        Some(HttpServer::start(listener.address(), |end| {
            listener.serve(doors, certificates, max_connections, end)
        }))
    }
}
