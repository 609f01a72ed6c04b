//! Ensures that only one process uses an embedded database.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why the database could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process uses it.
    #[error(
        "the embedded database {path} is in use by process {holder}. Only one process at a time can use it: stop that process, \
         use another file, or run several replicas with one remote database \
         (TENANT_AUTH_DATABASE_URL=libsql://…)"
    )]
    Held {
        /// The database file.
        path: String,
        /// The holder: a process id, or a note that it is unknown.
        holder: String,
    },
    /// The lock file cannot be created or read.
    #[error("cannot lock the embedded database: {path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// An exclusive lock on a database file, for as long as this value lives. The operating system releases it when the
/// process ends, for any reason.
#[derive(Debug)]
pub struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Locks a database file without waiting. Creates its folder.
    ///
    /// The lock is on `<file>.lock` next to it: SQLite has its own locks on the database file, and closing another
    /// handle of that file would release them.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that holds the lock.
    pub fn acquire(database: &Path) -> Result<Self, LockError> {
        let path = lock_path(database)?;
        let io_error = |source| LockError::Io { path: path.display().to_string(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| writeln!(file, "{}", std::process::id()))
                    .map_err(io_error)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: the lock is held by another process already.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                Err(LockError::Held {
                    path: database.display().to_string(),
                    holder: if holder.is_empty() { "(unknown)".into() } else { holder.into() },
                })
            }
            Err(TryLockError::Error(source)) => Err(io_error(source)),
        }
    }
}

/// Returns the path of a database's lock file; the same for every path and link to the database.
fn lock_path(database: &Path) -> Result<PathBuf, LockError> {
    let io_error = |source| LockError::Io { path: database.display().to_string(), source };
    let resolved = match fs::canonicalize(database) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            fs::create_dir_all(folder).map_err(io_error)?;
            let name =
                database.file_name().ok_or_else(|| io_error(io::Error::from(io::ErrorKind::InvalidInput)))?;
            fs::canonicalize(folder).map_err(io_error)?.join(name)
        }
        Err(error) => return Err(io_error(error)),
    };
    let mut path: OsString = resolved.into();
    path.push(".lock");
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_error_names_holder_and_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("deep/er/auth.db");
        let held = DatabaseLock::acquire(&database).unwrap();

        let error = DatabaseLock::acquire(&database).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        assert!(error.contains("TENANT_AUTH_DATABASE_URL"), "{error}");

        drop(held);
        DatabaseLock::acquire(&database).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn symlink_shares_the_database_lock() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("auth.db");
        fs::write(&database, "").unwrap();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&database, &link).unwrap();

        let _held = DatabaseLock::acquire(&database).unwrap();
        assert!(matches!(DatabaseLock::acquire(&link), Err(LockError::Held { .. })));
    }
}
