//! Runs git commands.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

/// Environment variables by which a hook or a wrapper would redirect git to another repository.
const REDIRECTING_VARIABLES: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"];

/// A git command failed.
#[derive(Debug, Error)]
pub enum GitError {
    /// git is missing, or cannot be run.
    #[error("git cannot be run: {0}")]
    Missing(#[from] std::io::Error),
    /// git ran and reported an error.
    #[error("git {command}: {message}")]
    Refused {
        /// Its arguments.
        command: String,
        /// The line of its output that names the error.
        message: String,
    },
}

/// A repository, identified by its folder.
#[derive(Debug)]
pub struct Git {
    folder: PathBuf,
}

impl Git {
    /// Opens the repository that a folder belongs to, at its top folder.
    ///
    /// # Errors
    /// [`GitError`] when the folder is in no repository.
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

    /// Returns the output of a git command, without the final line break.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn output(&self, args: &[&str]) -> Result<String, GitError> {
        let output = self.command(args).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // "fatal: …" is the cause; hints may follow it.
        let cause = said.lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:"));
        let message = cause.or(said.lines().last()).unwrap_or("failed without a message").trim().to_owned();
        Err(GitError::Refused { command: args.join(" "), message })
    }

    /// Returns the result of a git command that answers by its exit code.
    ///
    /// # Errors
    /// [`GitError::Refused`] for an exit code other than 0 and 1.
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
        // Password prompts are disabled; a remote that needs one cannot be reached.
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").stdin(std::process::Stdio::null());
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=10");
        }
        command
    }
}
