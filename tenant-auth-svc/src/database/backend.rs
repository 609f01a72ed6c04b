//! Either engine, chosen by the configuration.

use super::{
    client::observer::ServerAddress,
    engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    hrana::RemoteEngine,
    libsql::EmbeddedEngine,
};
use crate::domain::store::{Call, StoreError};

/// The engine in use.
#[derive(Debug)]
pub enum Backend {
    /// A local file of this process alone.
    Embedded(EmbeddedEngine),
    /// A remote server.
    Remote(RemoteEngine),
}

impl Backend {
    /// Where it is, if it is remote.
    #[must_use]
    pub fn server_address(&self) -> Option<ServerAddress> {
        match self {
            Self::Embedded(_) => None,
            Self::Remote(engine) => engine.server_address(),
        }
    }

    /// Whether replicas can share it.
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
