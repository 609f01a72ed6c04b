//! Runs examples as users do.

use std::{env, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::WAIT_TIMEOUT;

/// A running example; it is killed on drop.
pub(crate) struct Example {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    /// Starts the binary that `cargo test` has built beside this test.
    pub(crate) fn start(name: &str, environment: &[(&str, &str)]) -> Self {
        let test = env::current_exe().unwrap();
        let program = test.parent().unwrap().with_file_name("examples").join(name);
        let mut child = Command::new(&program)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                unreachable!("cargo build --examples, then {}: {error}", program.display())
            });
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, stdin, lines: BufReader::new(stdout).lines() }
    }

    pub(crate) async fn line(&mut self) -> String {
        timeout(WAIT_TIMEOUT, self.lines.next_line()).await.unwrap().unwrap().unwrap()
    }

    pub(crate) async fn send_line(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Closes its input and waits for it to exit. Returns whether it succeeded.
    pub(crate) async fn exited_successfully(self) -> bool {
        self.exit_code().await == Some(0)
    }

    /// Closes its input and waits for it to exit. Returns its exit code, unless a signal ended it.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        drop(self.stdin);
        timeout(WAIT_TIMEOUT, self.child.wait()).await.unwrap().unwrap().code()
    }

    pub(crate) async fn run_command(&mut self, command: Value) -> Value {
        self.send_line(&command.to_string()).await;
        serde_json::from_str(&self.line().await).unwrap()
    }
}
