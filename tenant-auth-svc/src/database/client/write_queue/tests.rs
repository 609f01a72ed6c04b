use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// Runs a transaction when the gate permits it, and records which ones came together.
#[derive(Debug)]
struct GatedDatabase {
    gate: Semaphore,
    calls: Mutex<Vec<(Lane, Vec<String>)>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

impl Engine for GatedDatabase {
    async fn query(&self, _: Call, _: Statement) -> Result<Rows, StoreError> {
        Ok(Vec::new())
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let names = transactions.iter().map(|statements| statements[0].sql.to_string());
        self.calls.lock().unwrap().push((call.lane, names.collect()));
        self.gate.acquire().await.unwrap().forget();
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        transactions.iter().map(|_| Ok(Vec::new())).collect()
    }
}

fn queue() -> WriteQueue<GatedDatabase> {
    let database = GatedDatabase {
        gate: Semaphore::new(0),
        calls: Mutex::default(),
        in_flight: AtomicUsize::new(0),
        max_in_flight: AtomicUsize::new(0),
    };
    WriteQueue::new(database, Duration::from_secs(10))
}

/// Starts a write and runs it as far as it can.
async fn start_write(
    queue: &WriteQueue<GatedDatabase>,
    lane: Lane,
    name: &str,
    timeout_seconds: u64,
) -> tokio::task::JoinHandle<TransactionResult> {
    let (queue, statement) = (queue.clone(), Statement::new(name));
    let call = Call::within(lane, Duration::from_secs(timeout_seconds));
    let task = tokio::spawn(async move { queue.transaction(call, vec![statement]).await });
    settle().await;
    task
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn calls(queue: &WriteQueue<GatedDatabase>) -> Vec<(Lane, Vec<String>)> {
    queue.inner().calls.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn one_call_is_in_flight_and_lanes_take_turns() {
    let queue = queue();
    let mut tasks = vec![start_write(&queue, Lane::Admin, "first", 60).await];
    for number in 0..3 {
        tasks.push(start_write(&queue, Lane::Admin, &format!("admin {number}"), 60).await);
    }
    tasks.push(start_write(&queue, Lane::Usage, "usage", 60).await);
    tasks.push(start_write(&queue, Lane::Sessions, "session", 60).await);
    assert_eq!((queue.queued(Lane::Admin), queue.queued(Lane::Usage)), (3, 1));
    assert!(queue.in_flight_for().is_some());
    queue.inner().gate.add_permits(100);
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    let together = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        calls(&queue),
        [
            (Lane::Admin, together(&["first"])),
            (Lane::Sessions, together(&["session"])),
            (Lane::Usage, together(&["usage"])),
            (Lane::Admin, together(&["admin 0", "admin 1", "admin 2"])),
        ]
    );
    assert_eq!(queue.inner().max_in_flight.load(Ordering::SeqCst), 1);
    settle().await;
    assert_eq!(queue.in_flight_for(), None);
}

/// Callers that disconnect, which is what concurrent writers cause under load.
#[tokio::test(start_paused = true)]
async fn sent_write_is_awaited_and_abandoned_write_is_never_sent() {
    let queue = queue();
    let sent = start_write(&queue, Lane::Admin, "sent", 1).await;
    let waits = start_write(&queue, Lane::Admin, "waits", 1).await;
    for task in [sent, waits] {
        assert_eq!(task.await.unwrap().unwrap_err().kind, FailureKind::TimedOut);
    }
    assert!(queue.in_flight_for().is_some(), "its outcome is not known yet");
    let next = start_write(&queue, Lane::Admin, "next", 60).await;
    assert_eq!(calls(&queue).len(), 1, "no other call starts before that");
    queue.inner().gate.add_permits(2);
    assert!(next.await.unwrap().is_ok());
    let names: Vec<_> = calls(&queue).into_iter().flat_map(|(_, names)| names).collect();
    assert_eq!(names, ["sent", "next"]);
}

#[tokio::test(start_paused = true)]
async fn full_lane_refuses_writes_until_callers_leave() {
    let queue = queue();
    let mut tasks = vec![start_write(&queue, Lane::Usage, "in flight", 600).await];
    for _ in 0..64 {
        tasks.push(start_write(&queue, Lane::Usage, "waits", 60).await);
    }
    let refused = start_write(&queue, Lane::Usage, "one too many", 60).await;
    assert_eq!(refused.await.unwrap().unwrap_err().kind, FailureKind::Overloaded);
    let other = start_write(&queue, Lane::Sessions, "another lane", 600).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    settle().await;
    let last = start_write(&queue, Lane::Usage, "after they have left", 600).await;
    queue.inner().gate.add_permits(100);
    assert!(other.await.unwrap().is_ok() && last.await.unwrap().is_ok());
}
