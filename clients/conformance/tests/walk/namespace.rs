//! Runs a client that resolves names from a hosts file of the test, independent of the machine's resolver.

use std::{fs, io, path::Path, process::Stdio};

use anyhow::bail;
use tempfile::TempDir;
use tenant_auth_conformance::{
    language::Language,
    runner::{Runner, StartOutcome},
};
use tokio::process::Command;

use crate::{RUNNER_BUILD_FOLDER, stage::Variables};

/// Mounts the test's files over the machine's, for one process and its children. Names are resolved from the
/// file alone: no DNS server is asked.
const NAMESPACE_SCRIPT: &str = r#"
set -e
folder=$1; shift
for file in hosts nsswitch.conf; do
  [ ! -e /etc/$file ] || mount --bind "$folder/$file" /etc/$file
done
exec "$@"
"#;

/// The names that exist.
pub(crate) struct HostNames {
    folder: TempDir,
}

impl HostNames {
    /// Creates an empty set of names. `Err` says why the machine does not support this.
    pub(crate) async fn new() -> anyhow::Result<Result<Self, String>> {
        let names = Self { folder: tempfile::tempdir()? };
        fs::write(names.folder.path().join("nsswitch.conf"), "hosts: files\n")?;
        names.set(&[])?;
        let mut command = names.namespaced_command();
        let tried = command.arg("true").stdin(Stdio::null()).output().await;
        Ok(match tried {
            Ok(output) if output.status.success() => Ok(names),
            Ok(output) => Err(format!("no mount namespaces: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("no mount namespaces: unshare: {error}")),
        })
    }

    /// Replaces the names.
    pub(crate) fn set(&self, names: &[(&str, &str)]) -> io::Result<()> {
        let mut lines = String::from("127.0.0.1 localhost\n");
        for (name, address) in names {
            lines.push_str(&format!("{address} {name}\n"));
        }
        // Written in place, because the file itself is mounted, not its path.
        fs::write(self.folder.path().join("hosts"), lines)
    }

    /// Starts a client that resolves only these names.
    pub(crate) async fn runner(&self, language: &Language, variables: &Variables) -> anyhow::Result<Runner> {
        let runner = language.runner_command(Path::new(RUNNER_BUILD_FOLDER));
        let mut command = self.namespaced_command();
        command.arg(runner.get_program()).args(runner.get_args());
        for (name, value) in runner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = runner.get_current_dir() {
            command.current_dir(folder);
        }
        match Runner::try_start(command, variables).await? {
            StartOutcome::Ready(runner) => Ok(*runner),
            StartOutcome::Refused(error) => bail!("the client rejected its settings: {error}"),
        }
    }

    fn namespaced_command(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", NAMESPACE_SCRIPT, "sh"]);
        command.arg(self.folder.path());
        command
    }
}
