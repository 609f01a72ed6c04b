//! The engine that the configuration selects.

use super::{
    client::observer::ServerAddress,
    engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    hrana::{RemoteEngine, RowCounts},
    libsql::EmbeddedEngine,
};
use crate::domain::{
    known_database::read_route::ReplicationIndex,
    store::{Call, StoreError},
};

/// The selected engine.
#[derive(Debug)]
pub enum Backend {
    /// A local file that only this process uses.
    Embedded(EmbeddedEngine),
    /// A remote server.
    Remote(RemoteEngine),
}

impl Backend {
    /// Returns the server's address, if the database is remote.
    #[must_use]
    pub fn server_address(&self) -> Option<ServerAddress> {
        match self {
            Self::Embedded(_) => None,
            Self::Remote(engine) => engine.server_address(),
        }
    }

    /// Returns the rows that a remote server has counted.
    #[must_use]
    pub fn row_counts(&self) -> Option<&RowCounts> {
        match self {
            Self::Embedded(_) => None,
            Self::Remote(engine) => Some(engine.row_counts()),
        }
    }

    /// Returns the replication index that a remote server reports.
    #[must_use]
    pub fn replication_index(&self) -> Option<&ReplicationIndex> {
        match self {
            Self::Embedded(_) => None,
            Self::Remote(engine) => Some(engine.replication_index()),
        }
    }

    /// Whether several replicas can share the database.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Remote(_) => true,
        }
    }
}

impl Engine for Backend {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        match self {
            Self::Embedded(engine) => engine.query(call, statement).await,
            Self::Remote(engine) => engine.query(call, statement).await,
        }
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        match self {
            Self::Embedded(engine) => engine.transactions(call, transactions).await,
            Self::Remote(engine) => engine.transactions(call, transactions).await,
        }
    }
}
