//! The servers that are measured: processes of their own, bound to a core.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::cpu_accounting;

/// How long a server may take until it listens.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server. It ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a program on one core, and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, or does not listen.
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
                bail!("{} ended at once: {status}", program.display());
            }
            if begun.elapsed() > STARTUP_TIMEOUT {
                bail!("{} does not listen", program.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Starts one that takes its address as its only argument: those that do nothing.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_empty(core: Option<usize>, program: &Path) -> anyhow::Result<Self> {
        Self::start(core, program, |command, address| {
            command.arg(address.to_string());
        })
    }

    /// What all its threads have used of the processors, by the scheduler's own books.
    ///
    /// # Errors
    /// Where there is no `/proc` with `schedstat`.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        Ok(cpu_accounting::process_time(self.child.id())?.running)
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
        Ok(kib * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to lose; that it has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
