//! The notifications that systemd receives (`Type=notify`); the test opens the socket itself.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream, UnixDatagram},
    process::{Child, ChildStderr, Command},
};

use crate::harness::{
    TOKEN,
    program::{addresses, program, signal},
};

/// Stands for systemd: receives notifications on a socket.
struct FakeServiceManager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl FakeServiceManager {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a `serve` command on free ports that notifies this socket.
    fn serve(&self, database: &str) -> Command {
        self.serve_at("127.0.0.1:0", database)
    }

    fn serve_at(&self, listen: &str, database: &str) -> Command {
        let mut command = program();
        command
            .args(["serve", "--listen", listen, "--log-format", "json"])
            .env("NOTIFY_SOCKET", self.file("notify"))
            .env("TENANT_AUTH_DATABASE_URL", database)
            .env("TENANT_AUTH_CREATE_SCHEMA", "true")
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_DRAIN_DELAY", "0s")
            .stderr(Stdio::piped());
        command
    }

    /// Returns the lines of the next notification.
    async fn next_notification(&self) -> Vec<String> {
        let mut buffer = [0; 4_096];
        let length = tokio::time::timeout(Duration::from_secs(30), self.socket.recv(&mut buffer)).await;
        let length = length.expect("a notification must arrive").unwrap();
        std::str::from_utf8(&buffer[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    fn assert_no_notification(&self) {
        let more = self.socket.try_recv(&mut [0; 4_096]);
        assert_eq!(more.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

fn start_program(command: &mut Command) -> (Child, Lines<BufReader<ChildStderr>>) {
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    (child, log)
}

#[tokio::test]
async fn systemd_is_notified_of_ready_reload_and_stop() {
    let database = HranaServer::builder().token(TOKEN).start().await.unwrap();
    let manager = FakeServiceManager::listen();
    let denied = manager.file("denied");
    std::fs::write(&denied, "# nobody\n").unwrap();
    let token = manager.file("token");
    std::fs::write(&token, TOKEN).unwrap();
    let mut command = manager.serve(&database.url());
    command.env("TENANT_AUTH_DENY_FILE", &denied).env("TENANT_AUTH_DATABASE_TOKEN_FILE", &token);
    let (mut serve, mut log) = start_program(&mut command);

    assert_eq!(
        manager.next_notification().await,
        ["READY=1", "STATUS=serving; the database has not been reached yet"]
    );
    let (address, ops) = addresses(&mut log).await;
    TcpStream::connect(&address).await.unwrap();
    TcpStream::connect(ops).await.unwrap();
    assert_eq!(manager.next_notification().await, ["STATUS=serving; ready"]);

    reload(&manager, &serve, "STATUS=serving; files reloaded").await;
    std::fs::write(&denied, "no key, and no tenant\n").unwrap();
    let refused = "STATUS=serving; reload refused, previous content in effect: deny list";
    reload(&manager, &serve, refused).await;
    std::fs::remove_file(&token).unwrap();
    reload(&manager, &serve, &format!("{refused}, database token")).await;

    signal(&serve, "TERM");
    assert_eq!(
        manager.next_notification().await,
        ["STOPPING=1", "STATUS=stopping; draining in-flight requests"]
    );
    assert!(serve.wait().await.unwrap().success());
    manager.assert_no_notification();
}

async fn reload(manager: &FakeServiceManager, serve: &Child, status: &str) {
    signal(serve, "HUP");
    let notification = manager.next_notification().await;
    // Both in one message, as systemd requires.
    let [reloading, timestamp] = notification.as_slice() else { panic!("{notification:?}") };
    assert_eq!(reloading, "RELOADING=1");
    let timestamp = timestamp.strip_prefix("MONOTONIC_USEC=").expect("the message must have a timestamp");
    assert!(timestamp.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.next_notification().await, ["READY=1", status]);
}

#[tokio::test]
async fn systemd_ready_needs_listener_but_no_database() {
    let manager = FakeServiceManager::listen();
    // The database is unreachable: the service serves, and its status reports the missing database.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let database = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let (serve, mut log) = start_program(&mut manager.serve(&database));
    assert_eq!(
        manager.next_notification().await,
        ["READY=1", "STATUS=serving; the database has not been reached yet"]
    );
    addresses(&mut log).await;
    signal(&serve, "TERM");
    assert_eq!(manager.next_notification().await[0], "STOPPING=1");

    let address = taken.local_addr().unwrap().to_string();
    let ended = manager.serve_at(&address, &database).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
    manager.assert_no_notification();
}

#[tokio::test]
async fn missing_service_manager_socket_is_harmless() {
    let database = HranaServer::builder().start().await.unwrap();
    let manager = FakeServiceManager::listen();
    let mut command = manager.serve(&database.url());
    let (mut serve, mut log) = start_program(command.env("NOTIFY_SOCKET", Path::new("/nowhere/notify")));
    addresses(&mut log).await;
    while !log.next_line().await.unwrap().expect("a log line must report it").contains("NOTIFY_SOCKET") {}
    signal(&serve, "TERM");
    assert!(serve.wait().await.unwrap().success());
}
