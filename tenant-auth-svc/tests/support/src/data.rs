//! Operations on a server's data as a whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use futures::executor::block_on;
use tokio::sync::watch;

use crate::{server::HranaServer, streams::connect};

/// A database at one point in time.
#[derive(Debug)]
pub struct Backup(PathBuf);

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
        vacuum_into(&primary.streams.database(), &path)?;
        self.shared.streams.replace(open_database(&path).await.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn new_data_file(&self) -> PathBuf {
        self.folder.path().join(format!("data-{}.db", self.file_count.fetch_add(1, Ordering::Relaxed)))
    }
}

pub(crate) async fn open_database(path: &Path) -> io::Result<Arc<libsql::Database>> {
    let database = libsql::Builder::new_local(path).build().await.map_err(io::Error::other)?;
    let setup = connect(&database).map_err(io::Error::other)?;
    drop(setup.query("PRAGMA journal_mode = WAL", ()).await.map_err(io::Error::other)?);
    Ok(Arc::new(database))
}

pub(crate) fn vacuum_into(database: &libsql::Database, path: &Path) -> Result<(), String> {
    let connection = connect(database).map_err(|error| error.to_string())?;
    let vacuum = format!("VACUUM INTO '{}'", path.display());
    block_on(connection.execute(&vacuum, ())).map(drop).map_err(|error| error.to_string())
}
