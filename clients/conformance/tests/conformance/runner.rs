//! A client's conformance runner: a process that takes a command a line and gives an answer a line.

use std::{net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tenant_auth_conformance::language::Language;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{PATIENCE, case};

/// For calls that name none: so long that a busy machine is no failure.
const TIMEOUT_MS: u64 = 20_000;

/// A runner that is ready.
#[derive(Debug)]
pub(crate) struct Runner {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// What it says on standard error.
    complaints: JoinHandle<String>,
    last: u64,
}

impl Runner {
    pub(crate) async fn start(
        language: &Language,
        out: &Path,
        service: SocketAddr,
        options: &case::Client,
    ) -> anyhow::Result<Self> {
        let mut command = Command::from(language.runner(out));
        command.env("TENANT_AUTH_ENDPOINTS", service.to_string());
        if !options.near_cache {
            command.env("TENANT_AUTH_NEAR_CACHE", "off");
        }
        if !options.watch {
            command.env("TENANT_AUTH_WATCH", "off");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(commands), Some(answers), Some(mut errors)) = (commands, answers, child.stderr.take())
        else {
            bail!("a runner without pipes");
        };
        let complaints = tokio::spawn(async move {
            let mut said = Vec::new();
            // What was said before the pipe broke is worth as much.
            let _ = errors.read_to_end(&mut said).await;
            String::from_utf8_lossy(&said).into_owned()
        });
        let answers = BufReader::new(answers).lines();
        let mut runner = Self { child, commands, answers, complaints, last: 0 };
        let first = runner.next().await?;
        ensure!(first == json!({"ready": true}), "a runner begins with {first}");
        Ok(runner)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn ask(&mut self, mut command: Value) -> anyhow::Result<Value> {
        self.last += 1;
        let id = json!(self.last);
        let Some(fields) = command.as_object_mut() else { bail!("{command} is no command") };
        fields.insert("id".to_owned(), id.clone());
        fields.entry("timeout_ms").or_insert(json!(TIMEOUT_MS));
        self.send(&command).await?;
        let answer = self.next().await.with_context(|| command.to_string())?;
        ensure!(answer["id"] == id, "{answer} answers another command than {command}");
        Ok(answer)
    }

    /// Has it end, which it must do well and without a complaint.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.send(&json!({"op": "close"})).await?;
        let answer = self.next().await?;
        ensure!(answer["closed"] == json!(true), "told to close it said {answer}");
        let status = timeout(PATIENCE, self.child.wait()).await.context("it did not end when closed")??;
        let complaints = self.complaints.await?;
        ensure!(status.success() && complaints.is_empty(), "it ended with {status}: {complaints}");
        Ok(())
    }

    async fn send(&mut self, command: &Value) -> anyhow::Result<()> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        Ok(self.commands.flush().await?)
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        let line =
            timeout(PATIENCE, self.answers.next_line()).await.context("no answer from the runner")??;
        let Some(line) = line else {
            let complaints = timeout(PATIENCE, &mut self.complaints).await.context("it said no more")??;
            bail!("the runner ended: {complaints}");
        };
        serde_json::from_str(&line).with_context(|| line)
    }
}
