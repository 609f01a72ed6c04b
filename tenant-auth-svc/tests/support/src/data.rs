//! What can happen to a server's data as a whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use futures::executor::block_on;
use tokio::sync::watch;

use crate::{server::HranaServer, streams::connect};

/// A database as it was at a moment.
#[derive(Debug)]
pub struct Backup(PathBuf);

/// Whether a copy is cut off from its primary.
#[derive(Debug, Default)]
pub(crate) struct Partition(watch::Sender<bool>);

impl Partition {
    /// Waits until it is not.
    pub(crate) async fn wait(&self) {
        // The sender lives as long as the server.
        let _ = self.0.subscribe().wait_for(|cut| !cut).await;
    }
}

impl HranaServer {
    /// Cuts a [copy](crate::Builder::copy_of) off from its primary, or connects them again: what it would pass on hangs.
    pub fn set_partitioned(&self, cut: bool) {
        self.shared.partition.0.send_replace(cut);
    }

    /// Takes a backup.
    ///
    /// # Errors
    /// What the engine says.
    pub fn backup(&self) -> Result<Backup, String> {
        let path = self.new_data_file();
        vacuum_into(&self.shared.streams.database(), &path)?;
        Ok(Backup(path))
    }

    /// Goes on with the data of a backup, as after a restore: what was changed since is gone.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn restore(&self, backup: &Backup) -> io::Result<()> {
        let path = self.new_data_file();
        std::fs::copy(&backup.0, &path)?;
        self.shared.streams.replace(open_database(&path).await?);
        Ok(())
    }

    /// Goes on with nothing, as after the wrong command.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn wipe(&self) -> io::Result<()> {
        self.shared.streams.replace(open_database(&self.new_data_file()).await?);
        Ok(())
    }

    /// Reads what its primary holds now, where this is a [copy](crate::Builder::copy_of).
    ///
    /// # Errors
    /// What the engine says.
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
