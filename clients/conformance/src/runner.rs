//! A client's conformance runner: a process that reads one command per line and writes one answer per line.

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

/// Timeout of commands without their own: long enough for a busy machine.
const DEFAULT_CALL_TIMEOUT_MS: u64 = 20_000;

/// A runner that is ready. Commands may run concurrently.
#[derive(Debug)]
pub struct Runner {
    child: Child,
    commands: AsyncMutex<ChildStdin>,
    pending: Arc<PendingCommands>,
    last_command_id: AtomicU64,
    reader_task: JoinHandle<anyhow::Result<()>>,
    /// Collects its standard error.
    stderr_task: JoinHandle<String>,
}

/// Senders for the pending answers, by command number. `None` after the last answer.
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

/// The result of starting a runner.
#[derive(Debug)]
pub enum StartOutcome {
    /// The runner has created a client.
    Ready(Box<Runner>),
    /// The client rejected the settings and the runner exited; contains the error that it printed.
    Refused(String),
}

impl Runner {
    /// Starts a runner with these variables in addition to the machine's.
    ///
    /// # Errors
    /// Fails if it does not start, or its client rejects the settings.
    pub async fn start(
        language: &Language,
        out: &Path,
        variables: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        match Self::try_start(language.runner_command(out).into(), variables).await? {
            StartOutcome::Ready(runner) => Ok(*runner),
            StartOutcome::Refused(error) => bail!("the client rejected its settings: {error}"),
        }
    }

    /// Starts a runner with this command. The client may reject the settings.
    ///
    /// # Errors
    /// Fails if the runner neither becomes ready nor reports an error and exits with code 2.
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
            bail!("the runner has no pipes");
        };
        let mut stderr_text = tokio::spawn(async move {
            let mut buffer = Vec::new();
            // The output before a broken pipe is used as well.
            let _ = errors.read_to_end(&mut buffer).await;
            String::from_utf8_lossy(&buffer).into_owned()
        });
        let mut answers = BufReader::new(answers).lines();
        let first =
            timeout(WAIT_TIMEOUT, answers.next_line()).await.context("the runner printed nothing")??;
        let Some(first) = first else {
            let stderr_text = timeout(WAIT_TIMEOUT, &mut stderr_text)
                .await
                .context("reading the runner's standard error timed out")??;
            bail!("the runner exited: {stderr_text}");
        };
        let first_answer: Value = serde_json::from_str(&first).with_context(|| first.clone())?;
        if let (Some(false), Some(error)) = (first_answer["ready"].as_bool(), first_answer["error"].as_str())
        {
            let status = timeout(WAIT_TIMEOUT, child.wait())
                .await
                .context("the runner rejected its settings and did not exit")??;
            ensure!(
                status.code() == Some(2),
                "the runner rejected its settings and exited with {status} instead of code 2"
            );
            return Ok(StartOutcome::Refused(error.to_owned()));
        }
        ensure!(first_answer == json!({"ready": true}), "the first line of the runner is {first_answer}");
        let waiting = Arc::new(PendingCommands(Mutex::new(Some(BTreeMap::new()))));
        let reading = tokio::spawn(dispatch_answers(answers, Arc::clone(&waiting)));
        let last = AtomicU64::new(1);
        Ok(StartOutcome::Ready(Box::new(Self {
            child,
            commands: AsyncMutex::new(commands),
            pending: waiting,
            last_command_id: last,
            reader_task: reading,
            stderr_task: stderr_text,
        })))
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn send_command(&self, mut command: Value) -> anyhow::Result<Value> {
        let Some(fields) = command.as_object_mut() else { bail!("{command} is not a command object") };
        fields.entry("timeout_ms").or_insert(json!(DEFAULT_CALL_TIMEOUT_MS));
        let (sender, answer) = oneshot::channel();
        let id = self.last_command_id.fetch_add(1, Ordering::Relaxed);
        fields.insert("id".to_owned(), json!(id));
        let runs =
            self.pending.with_pending(|waiting| waiting.as_mut().map(|waiting| waiting.insert(id, sender)));
        ensure!(runs.is_some(), "the runner has exited");
        let mut commands = self.commands.lock().await;
        commands.write_all(format!("{command}\n").as_bytes()).await?;
        commands.flush().await?;
        drop(commands);
        let answer = timeout(WAIT_TIMEOUT, answer).await;
        let answer = answer.with_context(|| format!("the runner did not answer {command}"))?;
        answer.with_context(|| format!("the runner exited, or printed an invalid answer, after {command}"))
    }

    /// Closes the runner, which must exit successfully. Its standard error may contain warnings, which a
    /// scene may cause on purpose.
    ///
    /// # Errors
    /// Fails if it does not exit, or exits with an error, with its standard error.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let answer = self.send_command(json!({"op": "close"})).await?;
        ensure!(answer["closed"] == json!(true), "unexpected answer to the close command: {answer}");
        let status = timeout(WAIT_TIMEOUT, self.child.wait())
            .await
            .context("the runner did not exit after the close command")??;
        self.reader_task.await??;
        let stderr_text = self.stderr_task.await?;
        ensure!(status.success(), "the runner exited with {status}: {stderr_text}");
        Ok(())
    }
}

/// Passes answers to the tasks that wait for them, until the end of the output.
async fn dispatch_answers(
    mut answers: Lines<BufReader<ChildStdout>>,
    waiting: Arc<PendingCommands>,
) -> anyhow::Result<()> {
    let reading = async {
        while let Some(line) = answers.next_line().await? {
            let answer: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            let sender =
                answer["id"].as_u64().and_then(|id| waiting.with_pending(|all| all.as_mut()?.remove(&id)));
            // The receiver was dropped if its command timed out.
            let _ = sender.with_context(|| format!("no command is waiting for {line}"))?.send(answer);
        }
        Ok(())
    };
    let read = reading.await;
    waiting.with_pending(Option::take);
    read
}
