//! Asking git.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

/// Variables by which a hook or a wrapper would point git at another repository than the one to check.
const REDIRECTING_VARIABLES: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// git did not do what it was asked.
#[derive(Debug, Error)]
pub enum GitError {
    /// There is no git, or it cannot be run.
    #[error("git cannot be run: {0}")]
    Missing(#[from] std::io::Error),
    /// It ran and refused.
    #[error("git {command}: {message}")]
    Refused {
        /// What it was asked.
        command: String,
        /// The last line that it said.
        message: String,
    },
}

/// A repository, by its folder.
#[derive(Debug)]
pub struct Git {
    folder: PathBuf,
}

impl Git {
    /// The repository that a folder belongs to, from its top.
    ///
    /// # Errors
    /// [`GitError`] when there is none.
    pub fn open(folder: &Path) -> Result<Self, GitError> {
        let here = Self { folder: folder.to_owned() };
        let top = here.output(&["rev-parse", "--show-toplevel"])?;
        Ok(Self { folder: top.into() })
    }

    /// The top folder of the checkout.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What git prints, without the last line's end.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn output(&self, args: &[&str]) -> Result<String, GitError> {
        let output = self.command(args).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // "fatal: …" is the cause; advice may follow it.
        let cause = said.lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let message = cause.or(said.lines().last()).unwrap_or("failed without a word").trim().to_owned();
        Err(GitError::Refused { command: args.join(" "), message })
    }

    /// Whether a command that answers by its exit code says yes.
    ///
    /// # Errors
    /// [`GitError::Refused`] when it could not tell.
    pub fn is_true(&self, args: &[&str]) -> Result<bool, GitError> {
        let output = self.command(args).output()?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(GitError::Refused {
                command: args.join(" "),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.folder).args(args);
        for name in REDIRECTING_VARIABLES {
            command.env_remove(name);
        }
        // Nobody is there to type a password; a remote that asks for one cannot be reached.
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").stdin(std::process::Stdio::null());
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10");
        }
        command
    }
}
