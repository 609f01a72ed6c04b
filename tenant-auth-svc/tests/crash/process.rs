//! Programs that are killed and started again: on the same port, with the same data.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
};

/// How long anything may take that has to come, however busy the machine is.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;
/// How much of a log is shown when something went wrong.
const LOG_TAIL_LINES: usize = 40;

/// A program that runs, until it is killed or this value goes.
pub(crate) struct Process {
    command: Command,
    child: Child,
    /// Kept apart: waiting for a child closes the input that it still has.
    input: ChildStdin,
    log: PathBuf,
}

impl Process {
    /// Starts one that writes its log into a file of this folder.
    pub(crate) fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { command, child, input, log }
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        let status = self.child.wait().await.unwrap();
        // One that had ended by itself would not prove anything.
        assert_eq!(status.signal(), Some(SIGKILL), "it had ended already, {status}: {}", self.log_tail());
    }

    pub(crate) fn restart(&mut self) {
        self.child = self.command.spawn().unwrap();
        self.input = self.child.stdin.take().unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn wait_for_exit(&mut self) -> String {
        let status = self.child.wait().await.unwrap();
        format!("{status}: {}", self.log_tail())
    }

    /// Sends it a line.
    pub(crate) async fn send_line(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// What it logged last.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// The service's program, with nothing of this environment.
pub(crate) fn service_command(command: &str, database: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc"));
    program
        .env_clear()
        .arg(command)
        .env("TENANT_AUTH_DATABASE_URL", database)
        .env("TENANT_AUTH_CREATE_SCHEMA", "true")
        .env("TENANT_AUTH_OPS_LISTEN", "off")
        .env("TENANT_AUTH_LOG", "warn");
    program
}

/// An address that nobody listens on.
///
/// Not one that the system gives away by itself: while nobody listens there, a client that tries again and again would be
/// given that very port for its own end sooner or later, and be connected to itself.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() % 10_000;
    (0..10_000)
        .map(|_| {
            let offset = (first + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 10_000;
            SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::try_from(offset).unwrap()))
        })
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}
