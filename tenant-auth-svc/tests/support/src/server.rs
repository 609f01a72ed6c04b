//! The server: its address, its data and its settings.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicUsize},
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    clock::Clock,
    connection,
    counters::{Counters, SharedCounters},
    data::{Partition, ReplicationIndex, open_database, vacuum_into},
    fault::FaultPlan,
    sql,
    statement_log::StatementLog,
    streams::{Streams, connect},
    write_lock::WriteLock,
};

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) streams: Streams,
    pub(crate) counters: SharedCounters,
    pub(crate) faults: FaultPlan,
    pub(crate) tokens: AccessTokens,
    pub(crate) write_lock: Arc<WriteLock>,
    /// The primary, if this is a read replica; writes are executed there.
    pub(crate) primary: Option<Arc<ServerState>>,
    pub(crate) partition: Partition,
    pub(crate) replication_index: ReplicationIndex,
    pub(crate) clock: Clock,
    pub(crate) statement_log: StatementLog,
}

/// How connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// The server does not end them.
    Never,
    /// By an orderly close once no request is in progress.
    WhenIdle,
    /// By an immediate reset.
    Reset,
}

/// The accepted tokens.
#[derive(Debug, Default)]
pub(crate) struct AccessTokens {
    full: Mutex<Option<String>>,
    read_only: Option<String>,
}

impl AccessTokens {
    /// Returns whether the sender may write; the error is the body of the rejection.
    pub(crate) fn authorize(&self, headers: &HeaderMap) -> Result<bool, &'static str> {
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(full) = full.as_deref() else { return Ok(true) };
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Err(r#"{"error":"Unauthorized: `Expected authorization header but none given`"}"#);
        };
        let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        match token {
            Some(token) if token == full => Ok(true),
            Some(token) if Some(token) == self.read_only.as_deref() => Ok(false),
            _ => Err(r#"{"error":"Unauthorized: `The JWT is invalid`"}"#),
        }
    }
}

/// Configures a server.
#[derive(Debug, Default)]
pub struct Builder {
    token: Option<String>,
    read_only_token: Option<String>,
    database: Option<PathBuf>,
    address: Option<SocketAddr>,
    primary: Option<Arc<ServerState>>,
}

impl Builder {
    /// Makes it a read replica of another server: it reads a read replica of that server's data, taken now and
    /// whenever it [catches up](HranaServer::catch_up), and forwards writes.
    #[must_use]
    pub fn replica_of(mut self, primary: &HranaServer) -> Self {
        self.primary = Some(Arc::clone(&primary.shared));
        self
    }

    /// Requires this bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Also accepts this token, for reads only.
    #[must_use]
    pub fn read_only_token(mut self, token: &str) -> Self {
        self.read_only_token = Some(token.to_owned());
        self
    }

    /// Stores the data in this file, instead of in a folder that is deleted with the server.
    #[must_use]
    pub fn database(mut self, path: PathBuf) -> Self {
        self.database = Some(path);
        self
    }

    /// Listens on this address, instead of on a free loopback port.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// Fails if the address cannot be bound, or the folder or the database cannot be created.
    pub async fn start(self) -> io::Result<HranaServer> {
        let folder = TempDir::new()?;
        let path = self.database.unwrap_or_else(|| folder.path().join("data.db"));
        if let Some(primary) = &self.primary {
            vacuum_into(&primary.streams.database(), &path).map_err(io::Error::other)?;
        }
        let database = open_database(&path).await?;
        let tally = SharedCounters::new();
        let shared = Arc::new(ServerState {
            streams: Streams::new(Arc::clone(&database), tally.clone()),
            write_lock: WriteLock::new(tally.clone()),
            counters: tally,
            faults: FaultPlan::new(),
            tokens: AccessTokens { full: Mutex::new(self.token), read_only: self.read_only_token },
            primary: self.primary,
            partition: Partition::default(),
            replication_index: ReplicationIndex::default(),
            clock: Clock::default(),
            statement_log: StatementLog::default(),
        });
        let wanted = self.address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listen(wanted)?;
        let address = listener.local_addr()?;
        let end = watch::Sender::new(ConnectionEnd::Never);
        let accepting = Some(accept(listener, Arc::clone(&shared), end.clone()));
        Ok(HranaServer {
            shared,
            address,
            connection_end: end,
            accept_task: accepting,
            file_count: AtomicUsize::new(0),
            folder,
        })
    }
}

/// A running server. Dropping it stops the server.
#[derive(Debug)]
pub struct HranaServer {
    pub(crate) shared: Arc<ServerState>,
    address: SocketAddr,
    connection_end: watch::Sender<ConnectionEnd>,
    accept_task: Option<JoinHandle<()>>,
    /// Number of files created so far.
    pub(crate) file_count: AtomicUsize,
    pub(crate) folder: TempDir,
}

impl HranaServer {
    /// Returns a builder.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the fault plan.
    #[must_use]
    pub fn faults(&self) -> &FaultPlan {
        &self.shared.faults
    }

    /// Returns the counters so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters.snapshot()
    }

    /// Waits, without polling, until the counters satisfy the condition.
    pub async fn wait_for(&self, wanted: impl FnMut(&Counters) -> bool) -> Counters {
        self.shared.counters.wait_for(wanted).await
    }

    /// Returns whether no transaction can start any more, because a client disconnected while it waited for
    /// the write lock.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.shared.write_lock.is_wedged()
    }

    /// Makes the current and the next holder of the write lock keep it, as during a long checkpoint, or ends
    /// that.
    pub fn hold_writes(&self, hold: bool) {
        self.shared.write_lock.freeze(hold);
    }

    /// Sets the clock of all statements, in Unix milliseconds. Triggers of the schema still use the engine's
    /// clock.
    pub fn set_clock(&self, now: impl Fn() -> i64 + Send + Sync + 'static) {
        self.shared.clock.set(now);
    }

    /// Returns how many requests contained a statement with this text, with any outcome.
    #[must_use]
    pub fn requests_with(&self, part: &str) -> u64 {
        self.shared
            .statement_log
            .count_requests(|statements| statements.iter().any(|statement| statement.contains(part)))
    }

    /// Returns how many requests contained no statement with any of these texts.
    #[must_use]
    pub fn requests_without(&self, parts: &[&str]) -> u64 {
        let has = |statement: &String| parts.iter().any(|part| statement.contains(part));
        self.shared.statement_log.count_requests(|statements| !statements.iter().any(has))
    }

    /// Returns the statements received that contain this text.
    #[must_use]
    pub fn statements_with(&self, part: &str) -> Vec<String> {
        self.shared.statement_log.texts_containing(part).into_iter().collect()
    }

    /// Requires another token from now on.
    pub fn set_token(&self, token: &str) {
        let mut full = self.shared.tokens.full.lock().unwrap_or_else(PoisonError::into_inner);
        *full = Some(token.to_owned());
    }

    /// Advances the clock of open streams.
    pub fn advance(&self, by: Duration) {
        self.shared.streams.advance(by);
    }

    /// Closes every connection without a request in progress, as an idle timeout does.
    pub async fn close_idle_connections(&self) {
        self.connection_end.send_replace(ConnectionEnd::WhenIdle);
        self.wait_for(|counters| counters.open_connections <= counters.open_requests).await;
        self.connection_end.send_replace(ConnectionEnd::Never);
    }

    /// Resets every connection and refuses new ones. The data is kept.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accept_task.take() {
            accepting.abort();
            // Waits until the listener is closed. The error only says that the task was aborted.
            let _ = accepting.await;
        }
        self.connection_end.send_replace(ConnectionEnd::Reset);
        self.shared.write_lock.restart();
        self.wait_for(|counters| counters.open_connections == 0).await;
        self.shared.streams.clear();
    }

    /// Listens again on the same address.
    ///
    /// # Errors
    /// Fails if another process has taken the port.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.connection_end.send_replace(ConnectionEnd::Never);
        let listener = listen(self.address)?;
        self.accept_task = Some(accept(listener, Arc::clone(&self.shared), self.connection_end.clone()));
        Ok(())
    }

    /// Runs a statement directly, bypassing the protocol and every fault, as a SQL shell does.
    ///
    /// # Errors
    /// Returns the engine's message.
    pub fn execute(&self, sql: &str) -> Result<u64, String> {
        let connection = connect(&self.shared.streams.database()).map_err(|error| error.to_string())?;
        let changed = connection.execute(sql, ()).map_err(|error| error.to_string())?;
        self.shared.replication_index.advance();
        Ok(changed as u64)
    }

    /// Runs a query directly, and returns the rows in the protocol's encoding.
    ///
    /// # Errors
    /// Returns the engine's message.
    pub fn query(&self, sql: &str) -> Result<Vec<Json>, String> {
        let connection = connect(&self.shared.streams.database()).map_err(|error| error.to_string())?;
        let statement = sql::prepare(sql, self.shared.clock.now()).map_err(|error| error.message)?;
        let executed = sql::run(&connection, &statement, Vec::new(), true).map_err(|error| error.message)?;
        Ok(executed.result.get("rows").and_then(Json::as_array).cloned().unwrap_or_default())
    }
}

impl Drop for HranaServer {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accept_task {
            accepting.abort();
        }
        self.connection_end.send_replace(ConnectionEnd::Reset);
        self.shared.write_lock.close();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Allows binding a port whose old connections are still in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

fn accept(
    listener: TcpListener,
    shared: Arc<ServerState>,
    end: watch::Sender<ConnectionEnd>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        // An error concerns one connection, or the file descriptors of the whole test. Either way, accepting
        // continues.
        loop {
            if let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection::serve(Arc::clone(&shared), socket, end.subscribe()));
            }
        }
    })
}
