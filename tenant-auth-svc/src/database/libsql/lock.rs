//! One process per embedded database.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why the database cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the embedded database {path} is in use by process {holder}. It belongs to one process at a time: stop that \
         one, or choose another file, or run several against one remote database \
         (TENANT_AUTH_DATABASE_URL=libsql://…)"
    )]
    Held {
        /// The database file.
        path: String,
        /// Who holds it: a process id, or that it is not known.
        holder: String,
    },
    /// The lock file cannot be made or read.
    #[error("cannot lock the embedded database: {path}: {source}")]
    Io {
        /// The file or folder concerned.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
}

/// An exclusive claim on a database file, for as long as this value lives. The operating system ends it with the
/// process, however that dies.
#[derive(Debug)]
pub struct DatabaseLock {
    _file: File,
}

impl DatabaseLock {
    /// Claims a database file at once, or not at all. Creates its folder.
    ///
    /// The claim is on `<file>.lock` beside it: SQLite has locks of its own on the database file, and closing another
    /// handle of that would drop them.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has it.
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
                // Only for the message; the claim is decided.
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

/// Where the lock of a database is, whichever way and through whatever links it is named.
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

        let refused = DatabaseLock::acquire(&database).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        assert!(refused.contains("TENANT_AUTH_DATABASE_URL"), "{refused}");

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
