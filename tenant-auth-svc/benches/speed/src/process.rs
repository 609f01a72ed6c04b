//! The measured servers: separate processes, each bound to a core.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::cpu_accounting;

/// Maximum time until a server listens.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server. Dropping it ends the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The address that it listens on.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a program on one core, and waits until it listens.
    ///
    /// # Errors
    /// Fails if the program cannot be started, or does not listen.
    pub fn start(
        core: Option<usize>,
        program: &Path,
        configure: impl FnOnce(&mut Command, SocketAddr),
    ) -> anyhow::Result<Self> {
        let address = free_port()?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(program);
                command
            }
            None => Command::new(program),
        };
        configure(&mut command, address);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut process = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{} exited at once: {status}", program.display());
            }
            if begun.elapsed() > STARTUP_TIMEOUT {
                bail!("{} does not listen", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts a baseline server, whose only argument is its address.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_empty(core: Option<usize>, program: &Path) -> anyhow::Result<Self> {
        Self::start(core, program, |command, address| {
            command.arg(address.to_string());
        })
    }

    /// Returns the CPU time of all its threads, from the scheduler's accounting.
    ///
    /// # Errors
    /// Fails without a `/proc` that has `schedstat`.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        Ok(cpu_accounting::process_time(self.child.id())?.running)
    }

    /// Returns its resident memory, in bytes.
    ///
    /// # Errors
    /// Fails without a `/proc`.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.child.id())
    }
}

/// Returns the resident memory of a process, in bytes.
///
/// # Errors
/// Fails without a `/proc`.
pub fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    Ok(kib * 1_024)
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process has no state to lose, and may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port that was just free.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
