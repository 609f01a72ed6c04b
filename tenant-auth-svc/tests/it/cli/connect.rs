//! `check-config --connect`: prints one line for reads and one for writes.

use std::process::Output;

use tempfile::TempDir;
use tenant_auth_testkit::{Fault, HranaServer};
use tokio::process::Command;

use crate::harness::{
    TOKEN,
    program::{program, run, text},
};

/// A migrated database, and the program configured for it.
struct Setup {
    database: HranaServer,
    folder: TempDir,
}

impl Setup {
    async fn start() -> Self {
        let database = HranaServer::builder().token(TOKEN).read_only_token("reader").start().await.unwrap();
        let setup = Self { database, folder: tempfile::tempdir().unwrap() };
        setup.write_token(TOKEN);
        setup
    }

    async fn start_migrated() -> Self {
        let setup = Self::start().await;
        assert!(run(&mut setup.command("migrate")).await.status.success());
        setup
    }

    fn write_token(&self, token: &str) {
        std::fs::write(self.folder.path().join("token"), token).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut program = program();
        program
            .arg(name)
            .env("TENANT_AUTH_DATABASE_URL", self.database.url())
            .env("TENANT_AUTH_DATABASE_TOKEN_FILE", self.folder.path().join("token"))
            .env("TENANT_AUTH_DATABASE_WRITE_TIMEOUT", "1s")
            .env("TENANT_AUTH_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_LOG", "off");
        program
    }

    async fn run_check(&self) -> CheckConfigOutput {
        CheckConfigOutput(run(self.command("check-config").arg("--connect")).await)
    }
}

struct CheckConfigOutput(Output);

impl CheckConfigOutput {
    fn line(&self, name: &str) -> String {
        let printed = text(&self.0.stdout);
        let line = printed.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} of {printed}")).trim_start().to_owned()
    }

    /// Asserts the exit code and how the two lines start.
    #[track_caller]
    fn assert_result(&self, code: i32, reads: &str, writes: &str) {
        let (reads_line, writes_line) = (self.line("reads "), self.line("writes "));
        assert!(reads_line.starts_with(reads), "{reads}: {reads_line}");
        assert!(writes_line.starts_with(writes), "{writes}: {writes_line}");
        assert_eq!(self.0.status.code(), Some(code), "{}", text(&self.0.stderr));
    }
}

#[tokio::test]
async fn check_config_connect_tests_read_and_write() {
    let setup = Setup::start_migrated().await;
    let checked = setup.run_check().await;
    checked.assert_result(0, "work: ", "work: ");
    let reported = text(&checked.0.stdout);
    assert!(reported.ends_with("and the database accepts reads and writes\n"), "{reported}");
    let rows = setup.database.query("SELECT beat FROM heartbeat").unwrap();
    assert_eq!(rows[0][0]["value"], "0", "the probe leaves nothing behind");
}

#[tokio::test]
async fn check_config_connect_tests_the_read_url() {
    let setup = Setup::start_migrated().await;
    let near = HranaServer::builder().token(TOKEN).replica_of(&setup.database).start().await.unwrap();
    let other = Setup::start_migrated().await;
    let check = async |url: String| {
        let mut command = setup.command("check-config");
        CheckConfigOutput(run(command.arg("--connect").env("TENANT_AUTH_DATABASE_READ_URL", url)).await)
    };
    let checked = check(near.url()).await;
    checked.assert_result(0, "work: ", "work: ");
    assert_eq!(checked.line("replica "), "works: it answers reads");
    let checked = check(other.database.url()).await;
    checked.assert_result(1, "work: ", "work: ");
    assert_eq!(checked.line("replica "), "works, but it is one of another database");
    near.faults().set(Fault::unauthorized());
    let checked = check(near.url()).await;
    checked.assert_result(1, "work: ", "work: ");
    assert!(checked.line("replica ").starts_with("failing (denied): "), "{}", checked.line("replica "));
    assert!(text(&checked.0.stderr).contains("reads of the read replica fail: "));
}

#[tokio::test]
async fn check_config_names_cause_of_refused_writes() {
    let setup = Setup::start_migrated().await;
    let sql = |code, message| Fault::Sql { code, message };
    for (fault, kind, cause) in [
        (Fault::blocked(), "blocked", "over a quota"),
        (Fault::forbidden(), "read_only", "may be read only"),
        (sql("SQLITE_READONLY", "attempt to write a readonly database"), "read_only", "may be read only"),
        (sql("SQLITE_FULL", "database or disk is full"), "disk_full", "make room on it"),
        (Fault::locked(), "busy", "holds the lock"),
        // Either the server times out the call or the program times out its write, whichever is first.
        (Fault::Hang, "timed_out", "deadline"),
    ] {
        setup.database.faults().set_writes(fault);
        let checked = setup.run_check().await;
        checked.assert_result(1, "work: ", &format!("failing ({kind}): "));
        let printed = text(&checked.0.stderr);
        assert!(
            printed.contains("database writes fail: ")
                && !printed.contains("reads fail")
                && printed.contains(cause),
            "{kind}: {printed}"
        );
    }
    setup.database.faults().clear();
    setup.write_token("reader");
    setup.run_check().await.assert_result(1, "work: ", "failing (read_only): ");
}

#[tokio::test]
async fn check_config_names_cause_of_refused_reads() {
    let setup = Setup::start_migrated().await;
    for (fault, kind) in [(Fault::blocked(), "blocked"), (Fault::forbidden(), "denied")] {
        setup.database.faults().set_reads(fault);
        let checked = setup.run_check().await;
        checked.assert_result(1, &format!("failing ({kind}): "), "work: ");
        let reported = text(&checked.0.stderr);
        assert!(
            reported.contains("database reads fail: ") && !reported.contains("writes fail"),
            "{reported}"
        );
    }
    setup.database.faults().clear();
    setup.write_token("wrong");
    let checked = setup.run_check().await;
    checked.assert_result(
        1,
        "failing (denied): the token is refused",
        "failing (denied): the token is refused",
    );
    let reported = text(&checked.0.stderr);
    assert!(
        reported.contains("database reads fail: ") && reported.contains("database writes fail: "),
        "{reported}"
    );
}

#[tokio::test]
async fn check_config_skips_write_test_without_schema() {
    let setup = Setup::start().await;
    let checked = setup.run_check().await;
    checked.assert_result(1, "work, but the database is unusable (schema_missing): ", "not tried: ");
    assert!(text(&checked.0.stderr).contains("run `tenant-auth-svc migrate`"), "{}", text(&checked.0.stderr));
    // The check still reports a refused write.
    setup.database.faults().set_writes(Fault::blocked());
    let checked = setup.run_check().await;
    checked.assert_result(1, "work, but the database is unusable", "failing (blocked): ");
    let reported = text(&checked.0.stderr);
    assert!(reported.contains("database writes fail: ") && !reported.contains("reads fail"), "{reported}");
}
