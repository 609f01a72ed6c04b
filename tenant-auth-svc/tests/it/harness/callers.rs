//! A callers file, and the error that an unknown caller gets.

use std::path::PathBuf;

use tempfile::TempDir;
use tenant_auth_svc::{
    config::Settings,
    domain::{
        access::{Role, TokenHash},
        clock::SystemClock,
    },
};
use tonic::{Code, Status};

use super::{TestDatabase, TestService, error_reason};

/// A callers file that tests can rewrite.
pub(crate) struct CallersFile(TempDir);

impl CallersFile {
    /// Creates the file with the given callers: name, role and tokens of each.
    pub(crate) fn new(callers: &[(&str, Role, &[&str])]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(callers);
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("callers.toml")
    }

    pub(crate) fn write(&self, callers: &[(&str, Role, &[&str])]) {
        let entry = |(name, role, tokens): &(&str, Role, &[&str])| {
            let hashes: Vec<_> = tokens.iter().map(|token| format!("'{}'", TokenHash::of(token))).collect();
            let (role, hashes) = (role.as_str(), hashes.join(", "));
            format!("[[caller]]\nname = '{name}'\nroles = ['{role}']\ntoken_sha256 = [{hashes}]\n")
        };
        std::fs::write(self.path(), callers.iter().map(entry).collect::<String>()).unwrap();
    }

    pub(crate) fn settings(&self, database: &TestDatabase) -> Settings {
        let path = self.path().display().to_string();
        database.settings().with_flag("TENANT_AUTH_CALLERS_FILE", Some(path))
    }

    pub(crate) async fn service(&self, database: &TestDatabase) -> TestService {
        TestService::start_with(self.settings(database), SystemClock::shared()).await
    }
}

pub(crate) const INFO: &str = "/tenantauth.v1.InfoService/GetServerInfo";

#[track_caller]
pub(crate) fn assert_unauthenticated(answer: Result<(), Status>) {
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), &*error_reason(&status)),
        (Code::Unauthenticated, "UNKNOWN_CALLER"),
        "{status:?}"
    );
}
