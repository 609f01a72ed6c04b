//! A remote database that can be killed: the test server in a process of its own, and what is in its file.
//!
//! A test cannot name the program of another package, so this very program is started once more, to run the one test below,
//! which then is the database.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use libsql::Builder;
use tenant_auth_testkit::{Fault, HranaServer};
use tokio::process::Command;

use crate::process::{Process, WAIT_TIMEOUT, free_address};

/// Where to listen; set for the process that is to be the database.
const LISTEN_VARIABLE: &str = "TENANT_AUTH_TEST_CRASH_LISTEN";
/// The file to keep the data in.
const FILE_VARIABLE: &str = "TENANT_AUTH_TEST_CRASH_FILE";
/// What every transaction of usage holds, and nothing else does.
const USAGE_WRITE: &str = "INSERT INTO usage_requests";

/// The database's process.
pub(crate) struct Database {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) file: PathBuf,
}

impl Database {
    /// Starts one with a file in this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let (address, file) = (free_address(), folder.join("remote.db"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "database::committed_usage_survives_database_kill", "--nocapture"])
            .env(LISTEN_VARIABLE, address.to_string())
            // What it leaves behind when it is killed goes with the folder.
            .env("TMPDIR", folder)
            .env(FILE_VARIABLE, &file);
        let process = Process::start(command, folder, "database");
        Self { process, url: format!("http://{address}"), file }
    }

    /// The answers to the next transactions of usage get lost, after they are committed.
    pub(crate) async fn lose_commit_responses(&mut self, count: usize) {
        self.process.send_line(&format!("lose {count}")).await;
    }

    /// The next transaction of usage is committed, and not answered.
    pub(crate) async fn hold_next_commit(&mut self) {
        self.process.send_line("hold").await;
    }

    /// Nothing goes wrong any more.
    pub(crate) async fn clear_faults(&mut self) {
        self.process.send_line("well").await;
    }
}

/// Serves, and does what it is told on its standard input; ends with that, so that it outlives nobody who started it.
async fn serve(address: SocketAddr, file: PathBuf) {
    let server = HranaServer::builder().address(address).database(file).start().await.unwrap();
    let faults = server.faults().clone();
    let obeying = tokio::task::spawn_blocking(move || {
        for line in std::io::stdin().lines() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("lose", count)) => {
                    faults.set_where(USAGE_WRITE, count.parse().unwrap(), Fault::ResetAfterCommit);
                }
                None if line == "hold" => faults.set_where(USAGE_WRITE, 1, Fault::HangAfterExecute),
                None if line == "well" => faults.clear(),
                _ => panic!("what is {line:?}?"),
            }
        }
    });
    obeying.await.unwrap();
}

/// The rows of a query, past every process that has the file open: each value as text.
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

/// Runs a statement by another hand.
pub(crate) async fn execute_in_file(file: &Path, sql: &str) -> u64 {
    let database = Builder::new_local(file).build().await.unwrap();
    let connection = database.connect().unwrap();
    connection.busy_timeout(WAIT_TIMEOUT).unwrap();
    connection.execute(sql, ()).await.unwrap()
}

/// Sends one statement as the service does, again and again until the database is there.
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
        end = database.process.wait_for_exit() => panic!("the database ended: {end}"),
    }
}

#[tokio::test]
async fn committed_usage_survives_database_kill() {
    if let (Ok(address), Ok(file)) = (std::env::var(LISTEN_VARIABLE), std::env::var(FILE_VARIABLE)) {
        return serve(address.parse().unwrap(), file.into()).await;
    }
    // The client is set up for TLS, which needs somebody to do it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::start(folder.path());
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
