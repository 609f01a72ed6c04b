//! Programs that are killed and restarted on the same port with the same data.

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

/// Maximum time to wait for an expected event, generous enough for a busy machine.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;
/// Number of log lines to show after a failure.
const LOG_TAIL_LINES: usize = 40;

/// A running program, until it is killed or this value is dropped.
pub(crate) struct Process {
    pub(crate) command: Command,
    pub(crate) child: Child,
    /// Held separately: waiting for a child closes the input that it still owns.
    input: ChildStdin,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes its log to a file in this folder.
    pub(crate) fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { command, child, input, log }
    }

    /// Kills the program.
    pub(crate) async fn kill(&mut self) {
        self.child.start_kill().unwrap();
        let status = self.child.wait().await.unwrap();
        // A process that had already exited would prove nothing.
        assert_eq!(
            status.signal(),
            Some(SIGKILL),
            "the process had already exited, {status}: {}",
            self.log_tail()
        );
    }

    pub(crate) fn restart(&mut self) {
        self.child = self.command.spawn().unwrap();
        self.input = self.child.stdin.take().unwrap();
    }

    /// Waits until the program exits by itself.
    pub(crate) async fn wait_for_exit(&mut self) -> String {
        let status = self.child.wait().await.unwrap();
        format!("{status}: {}", self.log_tail())
    }

    /// Sends it a line.
    pub(crate) async fn send_line(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Returns the last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// Returns the command of the service's program, with an empty environment.
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

/// Returns an address with a free port.
///
/// The port is outside the ephemeral range: otherwise a client that keeps retrying while no process listens
/// there would sooner or later be given this port for its own end, and connect to itself.
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
