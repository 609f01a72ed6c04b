//! The token with which a client authenticates as a caller.

use std::{fs, path::Path};

use anyhow::ensure;
use futures::future::try_join_all;
use tempfile::TempDir;
use tenant_auth_conformance::{language::Language, port, report::Outcome, runner::Runner, service::Service};
use tenant_auth_svc::domain::access::TokenHash;

use crate::{
    RUNNER_BUILD_FOLDER,
    load::{is_failed_with, run_load, run_load_during},
    stage::{Scenery, Variables, validate, variables},
};

/// Part of a log line about a call with the new token.
const NEW_TOKEN_LOG_MARK: &str = "\"caller\":\"after\"";

/// Replicas that authenticate callers by token, and the files with the tokens.
struct Callers {
    folder: TempDir,
    stage: Scenery,
}

impl Callers {
    async fn new(names: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        write_callers_file(folder.path(), names)?;
        let file = folder.path().join("callers.toml").display().to_string();
        let settings: Variables = [
            ("TENANT_AUTH_CALLERS_FILE".to_owned(), file),
            ("TENANT_AUTH_LOG".to_owned(), "info,tenant_auth::rpc=debug".to_owned()),
        ]
        .into();
        let stage = Scenery::with_replicas_at(&[
            (port::reserve_address()?, settings.clone()),
            (port::reserve_address()?, settings),
        ])
        .await?;
        Ok(Self { folder, stage })
    }

    fn token_file(&self) -> String {
        self.folder.path().join("token").display().to_string()
    }

    async fn runner(&self, language: &Language) -> anyhow::Result<Runner> {
        let mut client_settings = self.stage.variables();
        client_settings.insert("TENANT_AUTH_TOKEN_FILE".to_owned(), self.token_file());
        Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await
    }

    /// Sets the known callers of every replica.
    async fn set_known(&self, names: &[&str], language: &Language) -> anyhow::Result<()> {
        write_callers_file(self.folder.path(), names)?;
        try_join_all(self.stage.replicas.iter().map(|replica| replica.signal("HUP"))).await?;
        // A replica has reloaded the file once it accepts the new token and rejects the removed one.
        for replica in &self.stage.replicas {
            for name in ["before", "after"] {
                self.until_known(replica, name, names.contains(&name), language).await?;
            }
        }
        Ok(())
    }

    async fn until_known(
        &self,
        replica: &Service,
        name: &str,
        wanted: bool,
        language: &Language,
    ) -> anyhow::Result<()> {
        let mut client_settings = variables(&replica.address.to_string());
        client_settings.insert("TENANT_AUTH_TOKEN".to_owned(), name.to_owned());
        let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
        let known = async || {
            let answer = validate(&runner, &self.stage.key).await;
            answer.is_ok_and(|answer| (answer["verdict"] == "VALID") == wanted)
        };
        replica.wait_until("the replica does not reload its callers file", known).await?;
        runner.close().await
    }
}

/// Writes the callers file: each caller is named after its token.
fn write_callers_file(folder: &Path, names: &[&str]) -> std::io::Result<()> {
    let caller = |name: &&str| {
        format!(
            "[[caller]]\nname = '{name}'\nroles = ['validator']\ntoken_sha256 = ['{}']\n",
            TokenHash::of(name)
        )
    };
    fs::write(folder.join("callers.toml"), names.iter().map(caller).collect::<String>())
}

/// The new token is added, then used, and then the old one is removed. No call fails.
pub(crate) async fn rotated(language: &'static Language) -> anyhow::Result<Outcome> {
    let callers = Callers::new(&["before"]).await?;
    fs::write(callers.token_file(), "before\n")?;
    let runner = callers.runner(language).await?;
    run_load(&runner, &callers.stage.key, 20).await?;
    let changed = async {
        callers.set_known(&["before", "after"], language).await?;
        // Until here, only the checks for the new token have used it.
        let calls_before: Vec<_> =
            callers.stage.replicas.iter().map(|replica| replica.log_line_count(NEW_TOKEN_LOG_MARK)).collect();
        fs::write(callers.token_file(), "after\n")?;
        for (replica, calls_before) in callers.stage.replicas.iter().zip(calls_before) {
            replica
                .wait_until("the new token is not used", async || {
                    replica.log_line_count(NEW_TOKEN_LOG_MARK) > calls_before
                })
                .await?;
        }
        callers.set_known(&["after"], language).await
    };
    run_load_during(&runner, &callers.stage.key, changed).await?;
    run_load(&runner, &callers.stage.key, 50).await?;
    runner.close().await?;
    Ok(Outcome::OK)
}

/// A token file as editors of all systems write it.
pub(crate) async fn trimmed(language: &'static Language) -> anyhow::Result<Outcome> {
    let callers = Callers::new(&["before"]).await?;
    fs::write(callers.token_file(), "\u{feff}before \r\n\n")?;
    let runner = callers.runner(language).await?;
    run_load(&runner, &callers.stage.key, 20).await?;
    // An invalid token file leaves the last valid token in use.
    fs::write(callers.token_file(), "two\nlines\n")?;
    run_load(&runner, &callers.stage.key, 20).await?;
    runner.close().await?;

    // A program with an unknown token gets an authentication error, and not a verdict on the key.
    let mut client_settings = callers.stage.variables();
    client_settings.insert("TENANT_AUTH_TOKEN".to_owned(), "nobodys".to_owned());
    let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &client_settings).await?;
    let answer = validate(&runner, &callers.stage.key).await?;
    ensure!(is_failed_with(&answer, &["UNAUTHENTICATED"]), "an unknown caller was answered {answer}");
    runner.close().await?;
    Ok(Outcome::OK)
}
