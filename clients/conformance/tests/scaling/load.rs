//! Callers that never pause, and the answers that they received.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tenant_auth_client::{Client, Error, PresentedKey, Verdict};
use tenant_auth_conformance::WAIT_TIMEOUT;
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// A request and its only correct answer.
#[derive(Clone)]
pub(crate) struct ExpectedAnswer {
    pub(crate) key: Arc<PresentedKey>,
    pub(crate) scope: &'static str,
    pub(crate) verdict: Verdict,
}

/// Sends one validation.
pub(crate) async fn validate(client: &Client, known: &ExpectedAnswer) -> Result<bool, Error> {
    let validation = client.validate(&known.key, &[known.scope]).await?;
    Ok(validation.verdict == known.verdict)
}

/// The results of the callers.
#[derive(Default)]
pub(crate) struct CallResults {
    pub(crate) answered: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) slowest: Duration,
}

impl CallResults {
    async fn validate(&mut self, client: &Client, known: &ExpectedAnswer) {
        let began = Instant::now();
        match validate(client, known).await {
            Ok(true) => self.answered += 1,
            Ok(false) => self.wrong.push(format!("not {:?}", known.verdict)),
            Err(error) => self.errors.push(format!("after {:?}: {error:?}", began.elapsed())),
        }
        self.slowest = self.slowest.max(began.elapsed());
    }

    fn merge(&mut self, other: Self) {
        self.answered += other.answered;
        self.errors.extend(other.errors);
        self.wrong.extend(other.wrong);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Running callers.
pub(crate) struct Load {
    is_stopping: Arc<AtomicBool>,
    calls: watch::Sender<u64>,
    tasks: JoinSet<CallResults>,
}

impl Load {
    /// Starts `tasks` tasks. Each sends the next request as soon as it has an answer.
    pub(crate) fn start(client: &Client, keys: &[ExpectedAnswer], tasks: usize) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
        let mut running = JoinSet::new();
        for number in 0..tasks {
            let (client, keys) = (client.clone(), keys.to_vec());
            let (over, calls) = (Arc::clone(&over), calls.clone());
            running.spawn(async move {
                let mut results = CallResults::default();
                for known in keys.iter().cycle().skip(number) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    results.validate(&client, known).await;
                    calls.send_modify(|calls| *calls += 1);
                }
                results
            });
        }
        Self { is_stopping: over, calls, tasks: running }
    }

    /// Waits until this many more calls have ended.
    pub(crate) async fn until_more_calls(&self, more: u64) {
        let mut calls = self.calls.subscribe();
        let wanted = *calls.borrow_and_update() + more;
        timeout(WAIT_TIMEOUT, calls.wait_for(|calls| *calls >= wanted))
            .await
            .expect("the calls must end")
            .unwrap();
    }

    pub(crate) async fn stop(self) -> CallResults {
        self.is_stopping.store(true, Ordering::Relaxed);
        let mut results = CallResults::default();
        self.tasks.join_all().await.into_iter().for_each(|more| results.merge(more));
        results
    }
}
