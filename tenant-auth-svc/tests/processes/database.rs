//! A remote database that can be killed: the test server in its own process, and the contents of its file.
//!
//! A test cannot name the program of another package. The test program therefore starts itself again to run
//! only the test below, which acts as the database.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use libsql::Builder;
use tenant_auth_testkit::{Fault, HranaServer};
use tokio::process::Command;

use crate::{
    process::{Process, WAIT_TIMEOUT, free_address},
    settings::number_from_env,
};

/// The address to listen on; set for the process that acts as the database.
const LISTEN_VARIABLE: &str = "TENANT_AUTH_TEST_CRASH_LISTEN";
/// The file for the data.
const FILE_VARIABLE: &str = "TENANT_AUTH_TEST_CRASH_FILE";
/// By how many seconds the clock of the database is ahead. Without it, the clock is that of the machine.
pub(crate) const CLOCK_VARIABLE: &str = "TENANT_AUTH_TEST_CRASH_CLOCK";

/// The process of the database.
pub(crate) struct Database {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) file: PathBuf,
    /// A part that occurs in the transactions that faults concern, and in no other.
    faulty: &'static str,
}

impl Database {
    /// Starts a database whose file is in this folder. Faults concern the transactions that contain `faulty`.
    pub(crate) fn start(folder: &Path, faulty: &'static str) -> Self {
        let (address, file) = (free_address(), folder.join("remote.db"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "database::committed_data_survives_database_kill", "--nocapture"])
            .env(LISTEN_VARIABLE, address.to_string())
            // Files that a killed process leaves behind are deleted with the folder.
            .env("TMPDIR", folder)
            .env(FILE_VARIABLE, &file);
        let process = Process::start(command, folder, "database");
        Self { process, url: format!("http://{address}"), file, faulty }
    }

    /// Loses the responses to the next transactions after they are committed.
    pub(crate) async fn lose_commit_responses(&mut self, count: usize) {
        self.process.send_line(&format!("lose {count} {}", self.faulty)).await;
    }

    /// Commits the next transaction and does not respond.
    pub(crate) async fn hold_next_commit(&mut self) {
        self.process.send_line(&format!("hold 1 {}", self.faulty)).await;
    }

    /// Removes all faults.
    pub(crate) async fn clear_faults(&mut self) {
        self.process.send_line("well").await;
    }
}

/// Serves, and runs the commands from its standard input. Stops at the end of the input, so that it does not
/// outlive its parent.
async fn serve(address: SocketAddr, file: PathBuf) {
    let server = HranaServer::builder().address(address).database(file).start().await.unwrap();
    if let Some(ahead) = number_from_env(CLOCK_VARIABLE) {
        server.set_clock(move || unix_millis() + i64::try_from(ahead * 1_000).unwrap());
    }
    let faults = server.faults().clone();
    let commands = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            let line = line.unwrap();
            let words: Vec<_> = line.splitn(3, ' ').collect();
            match words[..] {
                ["lose", count, part] => {
                    faults.set_where(part, count.parse().unwrap(), Fault::ResetAfterCommit);
                }
                ["hold", count, part] => {
                    faults.set_where(part, count.parse().unwrap(), Fault::HangAfterExecute);
                }
                ["well"] => faults.clear(),
                _ => panic!("unknown command {line:?}"),
            }
        }
    });
    tokio::select! {
        ended = commands => ended.unwrap(),
        () = restart_when_wedged(&server) => {}
    }
}

/// A client that is killed while it waits for the write lock wedges the server, as it does sqld. An operator restarts it: here,
/// the process begins anew, under its id and with its input.
async fn restart_when_wedged(server: &HranaServer) {
    while !server.is_wedged() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let program = std::env::current_exe().unwrap();
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    panic!("the database could not be restarted: {error}");
}

/// Returns the current time of the machine, in Unix milliseconds.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Returns the rows of a query on the file, besides every process that has it open. Each value is text.
pub(crate) async fn query_rows(file: &Path, sql: &str) -> Vec<Vec<String>> {
    let database = Builder::new_local(file).build().await.unwrap();
    let connection = database.connect().unwrap();
    connection.busy_timeout(WAIT_TIMEOUT).unwrap();
    let mut rows = connection.query(sql, ()).await.unwrap();
    let mut read = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        let text = |column| match row.get_value(column).unwrap() {
            libsql::Value::Null => String::new(),
            libsql::Value::Integer(integer) => integer.to_string(),
            libsql::Value::Real(real) => real.to_string(),
            libsql::Value::Text(text) => text,
            libsql::Value::Blob(bytes) => hex::encode(bytes),
        };
        read.push((0..row.column_count()).map(text).collect());
    }
    read
}

/// Sends one statement as the service does, and retries until the database answers.
async fn send_until_answered(database: &mut Database, sql: &str) -> String {
    let body =
        serde_json::json!({"requests": [{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]});
    let url = format!("{}/v2/pipeline", database.url);
    let http = reqwest::Client::new();
    let sending = async {
        loop {
            if let Ok(answer) = http.post(&url).body(body.to_string()).send().await {
                return String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = sending => answer,
        end = database.process.wait_for_exit() => panic!("the database exited: {end}"),
    }
}

#[tokio::test]
async fn committed_data_survives_database_kill() {
    if let (Ok(address), Ok(file)) = (std::env::var(LISTEN_VARIABLE), std::env::var(FILE_VARIABLE)) {
        return serve(address.parse().unwrap(), file.into()).await;
    }
    // The client is configured for TLS and needs a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::start(folder.path(), "INSERT INTO kept");
    for sql in ["CREATE TABLE kept (number INTEGER)", "INSERT INTO kept VALUES (42)"] {
        let answer = send_until_answered(&mut database, sql).await;
        assert!(answer.contains(r#""type":"ok""#) && !answer.contains("error"), "{answer}");
    }
    database.process.kill().await;
    assert_eq!(query_rows(&database.file, "SELECT number FROM kept").await, [["42"]]);
    database.process.restart();
    let answer = send_until_answered(&mut database, "SELECT number FROM kept").await;
    assert!(answer.contains(r#""value":"42""#), "{answer}");
}
