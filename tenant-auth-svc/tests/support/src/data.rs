//! Operations on a server's data as a whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{server::HranaServer, streams::connect};

/// A database at one point in time.
#[derive(Debug)]
pub struct Backup(PathBuf);

/// The replication index: it rises with each change, and a read replica has that of the state that it shows.
#[derive(Debug)]
pub(crate) struct ReplicationIndex(AtomicU64);

impl Default for ReplicationIndex {
    fn default() -> Self {
        Self(AtomicU64::new(1))
    }
}

impl ReplicationIndex {
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the index in the protocol's encoding.
    pub(crate) fn text(&self) -> String {
        self.0.load(Ordering::SeqCst).to_string()
    }
}

/// Whether a read replica is partitioned from its primary.
#[derive(Debug, Default)]
pub(crate) struct Partition(watch::Sender<bool>);

impl Partition {
    /// Waits until the partition ends.
    pub(crate) async fn wait(&self) {
        // The sender lives as long as the server.
        let _ = self.0.subscribe().wait_for(|cut| !cut).await;
    }
}

impl HranaServer {
    /// Partitions a [read replica](crate::Builder::replica_of) from its primary, or reconnects them. Requests
    /// that it would forward hang meanwhile.
    pub fn set_partitioned(&self, cut: bool) {
        self.shared.partition.0.send_replace(cut);
    }

    /// Takes a backup.
    ///
    /// # Errors
    /// Returns the engine's message.
    pub fn backup(&self) -> Result<Backup, String> {
        let path = self.new_data_file();
        vacuum_into(&self.shared.streams.database(), &path)?;
        Ok(Backup(path))
    }

    /// Replaces the data with a backup, as a restore does; changes since the backup are lost.
    ///
    /// # Errors
    /// Fails if the disk has no space for it.
    pub async fn restore(&self, backup: &Backup) -> io::Result<()> {
        let path = self.new_data_file();
        std::fs::copy(&backup.0, &path)?;
        self.shared.streams.replace(open_database(&path).await?);
        Ok(())
    }

    /// Deletes all data, as a mistaken command would.
    ///
    /// # Errors
    /// Fails if the disk has no space for a new database.
    pub async fn wipe(&self) -> io::Result<()> {
        self.shared.streams.replace(open_database(&self.new_data_file()).await?);
        Ok(())
    }

    /// Copies the primary's current data, if this is a [read replica](crate::Builder::replica_of).
    ///
    /// # Errors
    /// Returns the engine's message.
    pub async fn catch_up(&self) -> Result<(), String> {
        let Some(primary) = &self.shared.primary else { return Ok(()) };
        let path = self.new_data_file();
        // Before the data: they may be newer, and never older than the index says.
        let index = primary.replication_index.0.load(Ordering::SeqCst);
        vacuum_into(&primary.streams.database(), &path)?;
        self.shared.replication_index.0.store(index, Ordering::SeqCst);
        self.shared.streams.replace(open_database(&path).await.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn new_data_file(&self) -> PathBuf {
        self.folder.path().join(format!("data-{}.db", self.file_count.fetch_add(1, Ordering::Relaxed)))
    }
}

pub(crate) async fn open_database(path: &Path) -> io::Result<Arc<Path>> {
    // The embedded engine of a test uses the same library by another binding, which refuses a library that it has not
    // initialized itself.
    let database = libsql::Builder::new_local(path).build().await.map_err(io::Error::other)?;
    drop(database.connect().map_err(io::Error::other)?);
    let connection = connect(path).map_err(io::Error::other)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(io::Error::other)?;
    Ok(Arc::from(path))
}

pub(crate) fn vacuum_into(database: &Path, path: &Path) -> Result<(), String> {
    let connection = connect(database).map_err(|error| error.to_string())?;
    let vacuum = format!("VACUUM INTO '{}'", path.display());
    connection.execute(&vacuum, ()).map(drop).map_err(|error| error.to_string())
}
