//! A client's conformance runner: a process that takes a command a line and gives an answer a line.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::{WAIT_TIMEOUT, language::Language};

/// For calls that name none: so long that a busy machine is no failure.
const DEFAULT_CALL_TIMEOUT_MS: u64 = 20_000;

/// A runner that is ready. Commands may be under way at once.
#[derive(Debug)]
pub struct Runner {
    child: Child,
    commands: AsyncMutex<ChildStdin>,
    pending: Arc<PendingCommands>,
    last_command_id: AtomicU64,
    reader_task: JoinHandle<anyhow::Result<()>>,
    /// What it says on standard error.
    stderr_task: JoinHandle<String>,
}

/// Those who wait for answers, by the number of the command. `None` once there will be no more.
#[derive(Debug)]
struct PendingCommands(Mutex<Option<BTreeMap<u64, oneshot::Sender<Value>>>>);

impl PendingCommands {
    fn with_pending<T>(
        &self,
        act: impl FnOnce(&mut Option<BTreeMap<u64, oneshot::Sender<Value>>>) -> T,
    ) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a runner began with.
#[derive(Debug)]
pub enum StartOutcome {
    /// It has a client.
    Ready(Box<Runner>),
    /// It could not make a client of what it was told, and ended; with the error that it told.
    Refused(String),
}

impl Runner {
    /// Starts one, with these variables beside the machine's.
    ///
    /// # Errors
    /// When it does not start, or makes no client of them.
    pub async fn start(
        language: &Language,
        out: &Path,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        match Self::try_start(language.runner_command(out).into(), variables).await? {
            StartOutcome::Ready(runner) => Ok(*runner),
            StartOutcome::Refused(error) => bail!("a runner that refuses what it was told: {error}"),
        }
    }

    /// Starts it by this command, which may be about to be refused by the client.
    ///
    /// # Errors
    /// When it does neither of what it may: get ready, or say why it does not and end with code 2.
    pub async fn try_start(
        mut command: Command,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<StartOutcome> {
        command.envs(variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(commands), Some(answers), Some(mut errors)) = (commands, answers, child.stderr.take())
        else {
            bail!("a runner without pipes");
        };
        let mut complaints = tokio::spawn(async move {
            let mut said = Vec::new();
            // What was said before the pipe broke is worth as much.
            let _ = errors.read_to_end(&mut said).await;
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut answers = BufReader::new(answers).lines();
        let first = timeout(WAIT_TIMEOUT, answers.next_line()).await.context("the runner says nothing")??;
        let Some(first) = first else {
            let complaints = timeout(WAIT_TIMEOUT, &mut complaints).await.context("it said no more")??;
            bail!("the runner ended: {complaints}");
        };
        let told: Value = serde_json::from_str(&first).with_context(|| first.clone())?;
        if let (Some(false), Some(error)) = (told["ready"].as_bool(), told["error"].as_str()) {
            let status =
                timeout(WAIT_TIMEOUT, child.wait()).await.context("a refusal that does not end")??;
            ensure!(status.code() == Some(2), "a runner that refuses ended with {status}");
            return Ok(StartOutcome::Refused(error.to_owned()));
        }
        ensure!(told == json!({"ready": true}), "a runner begins with {told}");
        let waiting = Arc::new(PendingCommands(Mutex::new(Some(BTreeMap::new()))));
        let reading = tokio::spawn(dispatch_answers(answers, Arc::clone(&waiting)));
        let last = AtomicU64::new(1);
        Ok(StartOutcome::Ready(Box::new(Self {
            child,
            commands: AsyncMutex::new(commands),
            pending: waiting,
            last_command_id: last,
            reader_task: reading,
            stderr_task: complaints,
        })))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn send_command(&self, mut command: Value) -> anyhow::Result<Value> {
        let Some(fields) = command.as_object_mut() else { bail!("{command} is no command") };
        fields.entry("timeout_ms").or_insert(json!(DEFAULT_CALL_TIMEOUT_MS));
        let (sender, answer) = oneshot::channel();
        let id = self.last_command_id.fetch_add(1, Ordering::Relaxed);
        fields.insert("id".to_owned(), json!(id));
        let runs =
            self.pending.with_pending(|waiting| waiting.as_mut().map(|waiting| waiting.insert(id, sender)));
        ensure!(runs.is_some(), "the runner has ended");
        let mut commands = self.commands.lock().await;
        commands.write_all(format!("{command}\n").as_bytes()).await?;
        commands.flush().await?;
        drop(commands);
        let answer = timeout(WAIT_TIMEOUT, answer).await;
        let answer = answer.with_context(|| format!("no answer from the runner to {command}"))?;
        answer.with_context(|| format!("the runner ended, or said what is no answer, after {command}"))
    }

    /// Has it end, which it must do well. What it says on standard error are warnings, of what a scene may well be about.
    ///
    /// # Errors
    /// When it does not end, or not well; with what it said.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let answer = self.send_command(json!({"op": "close"})).await?;
        ensure!(answer["closed"] == json!(true), "told to close it said {answer}");
        let status =
            timeout(WAIT_TIMEOUT, self.child.wait()).await.context("it did not end when closed")??;
        self.reader_task.await??;
        let complaints = self.stderr_task.await?;
        ensure!(status.success(), "it ended with {status}: {complaints}");
        Ok(())
    }
}

/// Hands answers to those who wait for them, until there are no more.
async fn dispatch_answers(
    mut answers: Lines<BufReader<ChildStdout>>,
    waiting: Arc<PendingCommands>,
) -> anyhow::Result<()> {
    let reading = async {
        while let Some(line) = answers.next_line().await? {
            let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            let sender =
                answer["id"].as_u64().and_then(|id| waiting.with_pending(|all| all.as_mut()?.remove(&id)));
            // Who has given up hears nothing.
            let _ = sender.with_context(|| format!("nobody waits for {line}"))?.send(answer);
        }
        Ok(())
    };
    let read = reading.await;
    waiting.with_pending(Option::take);
    read
}
