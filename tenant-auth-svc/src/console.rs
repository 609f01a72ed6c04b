//! The console: pages for operators in a browser, over the same RPCs as every other client.
//!
//! A page calls the gRPC services of this process through the whole middleware stack ([`rpc`]), with the credential of the
//! person that has logged in. So there is one place that decides who may do what, one that changes, one that audits, and the
//! console has no access to the database. What a replica knows about itself (its status, its recent history) reaches the pages
//! as plain values.
//!
//! Every page works without JavaScript. Live parts are replaced with fragments that the server renders.

mod applied;
mod assets;
mod audit;
mod bars;
mod change;
mod entered;
mod entries;
mod failure;
mod find;
mod fleet;
mod headers;
pub mod history;
mod html;
mod key;
mod keys;
mod live;
mod login;
mod logins;
mod new_key;
mod numbers;
mod overview;
mod parts;
mod paths;
mod person;
mod plot;
mod reason;
pub mod rpc;
mod sent_forms;
mod server;
mod tenant;
mod tenants;

use std::{fmt, path::PathBuf, sync::Arc};

use futures::future::{BoxFuture, Shared};
use zeroize::Zeroizing;

pub use self::server::{ConsoleListener, bind};
use self::{
    fleet::Fleet,
    history::{History, Readings},
    logins::Logins,
    rpc::InProcessRpc,
    sent_forms::SentForms,
};
use crate::{
    config::PeerUrl, domain::clock::SharedClock, middleware::identify::CallerDirectory, ops::StatusCheck,
};

/// What the console shows and calls.
#[derive(Clone)]
pub struct ConsoleParts {
    /// Who may log in.
    pub callers: CallerDirectory,
    /// Calls the RPCs of this process.
    pub rpc: InProcessRpc,
    /// Collects the status of this replica.
    pub status: StatusCheck,
    /// The clock of the process.
    pub clock: SharedClock,
    /// Reads the counters of this replica.
    pub readings: Readings,
    /// The other replicas.
    pub peers: Vec<PeerUrl>,
    /// The file with the caller token for the other replicas.
    pub peers_token_file: Option<PathBuf>,
}

/// The state of the console, shared by all requests.
pub(crate) struct Console {
    parts: ConsoleParts,
    logins: Logins,
    fleet: Arc<Fleet>,
    history: Arc<History>,
    /// What each form contains where nobody has to log in.
    shared_form_token: Zeroizing<String>,
    /// The forms that must have an effect once.
    sent_forms: SentForms,
    /// When live streams must end.
    end: End,
}

/// The end of the server.
type End = Shared<BoxFuture<'static, ()>>;

impl Console {
    /// `None` if the operating system has no randomness.
    fn new(parts: ConsoleParts, end: End) -> Option<Arc<Self>> {
        let logins = Logins::new(Arc::clone(&parts.clock));
        let fleet = Fleet::new(parts.peers.clone(), parts.peers_token_file.clone(), Arc::clone(&parts.clock));
        let (shared_form_token, sent_forms) = (logins::random_id()?, SentForms::default());
        let history = History::new(Arc::clone(&parts.clock), Arc::clone(&parts.readings));
        Some(Arc::new(Self { parts, logins, fleet, history, shared_form_token, sent_forms, end }))
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

impl fmt::Debug for ConsoleParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleParts").finish_non_exhaustive()
    }
}
