//! The measured programs, each built with its own profile.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// The paths of the programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Stock tonic: the default release profile.
    pub stock: PathBuf,
    /// A handler that does nothing, on our transport and in our build.
    pub bare: PathBuf,
    /// The service as it ships.
    pub service: PathBuf,
}

impl Programs {
    /// Returns the programs in a target folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        let program = |profile: &str, name: &str| folder.join(profile).join(name);
        Self {
            stock: program("release", "stock"),
            bare: program("dist", "bare"),
            service: program("dist", "tenant-auth-svc"),
        }
    }

    /// Builds the programs: the stock server with the default release profile, the others with the one that
    /// ships.
    ///
    /// # Errors
    /// Fails if cargo cannot be run, or fails.
    pub fn build() -> anyhow::Result<Self> {
        build(&["--release", "-p", "tenant-auth-bench", "--bin", "stock"])?;
        build(&["--profile", "dist", "-p", "tenant-auth-bench", "--bin", "bare"])?;
        build(&["--profile", "dist", "-p", "tenant-auth-svc"])?;
        let this = std::env::current_exe()?;
        let folder =
            this.parent().and_then(Path::parent).context("this program is not in a target folder")?;
        Ok(Self::in_folder(folder))
    }
}

fn build(args: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).arg("build").arg("--quiet").args(args).status()?;
    ensure!(status.success(), "cargo build {} failed", args.join(" "));
    Ok(())
}
