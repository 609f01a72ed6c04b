//! Batches of usage, against a service controlled by the test.

use std::collections::{BTreeSet, VecDeque};

use super::*;

type Request = (String, Vec<UsageEvent>);

const SECOND: Duration = Duration::from_secs(1);

/// The requests that were sent, and the next responses; the default response is OK.
#[derive(Clone, Default)]
struct Service {
    requests: Arc<Mutex<Vec<Request>>>,
    answers: Arc<Mutex<VecDeque<Result<RecordedUsage, Error>>>>,
    is_down: Arc<Mutex<bool>>,
    /// Requests with an event of this quantity are rejected as a whole.
    rejected: Arc<Mutex<Option<i64>>>,
    counted: Arc<Mutex<usize>>,
}

fn recorded(rejected: Vec<(usize, Error)>) -> RecordedUsage {
    RecordedUsage { accepted: 0, rejected, already_recorded: false }
}

fn unreachable_error() -> Error {
    Error::Unavailable { message: String::new(), reason: None, retry_after: None }
}

impl Service {
    fn recorder(&self, settings: RecorderSettings) -> UsageRecorder {
        let service = self.clone();
        UsageRecorder::with_sender(settings, move |request_id, events| {
            let service = service.clone();
            async move { service.answer((request_id, events)) }
        })
    }

    fn answer(&self, request: Request) -> Result<RecordedUsage, Error> {
        let is_rejected = |event: &UsageEvent| Some(event.quantity) == *self.rejected.lock().unwrap();
        let (is_rejected, events) = (request.1.iter().any(is_rejected), request.1.len());
        self.requests.lock().unwrap().push(request);
        if is_rejected {
            return Err(Error::Invalid { message: String::new(), violations: Vec::new() });
        }
        *self.counted.lock().unwrap() += events;
        if *self.is_down.lock().unwrap() {
            return Err(unreachable_error());
        }
        self.answers.lock().unwrap().pop_front().unwrap_or_else(|| Ok(recorded(Vec::new())))
    }

    fn reject_quantity(&self, quantity: i64) {
        *self.rejected.lock().unwrap() = Some(quantity);
    }

    fn counted(&self) -> usize {
        *self.counted.lock().unwrap()
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn sizes(&self) -> Vec<usize> {
        self.requests().iter().map(|(_, events)| events.len()).collect()
    }

    fn will_answer(&self, answer: Result<RecordedUsage, Error>) {
        self.answers.lock().unwrap().push_back(answer);
    }
}

#[tokio::test(start_paused = true)]
async fn batch_is_sent_after_a_second_or_when_full() {
    let service = Service::default();
    let recorder = service.recorder(RecorderSettings::new());
    for number in 0..3 {
        recorder.record("acme", "calls", number).unwrap();
    }
    tokio::time::sleep(SECOND * 9 / 10).await;
    assert!(service.requests().is_empty());
    tokio::time::sleep(SECOND / 5).await;
    assert_eq!(service.sizes(), [3]);
    let quantities: Vec<_> = service.requests()[0].1.iter().map(|event| event.quantity).collect();
    assert_eq!(quantities, [0, 1, 2]);
    assert!(service.requests()[0].1.iter().all(|event| event.occurred_at.is_some()));

    for _ in 0..1_100 {
        recorder.record("acme", "calls", 1).unwrap();
    }
    recorder.flush().await.unwrap();
    assert_eq!(service.sizes(), [3, 500, 500, 100]);
    let ids: BTreeSet<_> = service.requests().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn batch_is_resent_unchanged_until_answered() {
    let service = Service::default();
    let recorder = service.recorder(RecorderSettings::new());
    for error in
        [unreachable_error(), Error::DeadlineExceeded, Error::Unauthenticated { message: String::new() }]
    {
        service.will_answer(Err(error));
    }
    recorder.record("acme", "calls", 1).unwrap();
    recorder.flush().await.unwrap();
    let requests = service.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert!(recorder.close(SECOND).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn full_recorder_reports_events_it_rejects() {
    let service = Service::default();
    *service.is_down.lock().unwrap() = true;
    let recorder = service.recorder(RecorderSettings::new().capacity(10));
    for _ in 0..10 {
        recorder.record("acme", "calls", 1).unwrap();
    }
    assert_eq!(recorder.record("acme", "calls", 1), Err(NotRecorded::Full));
    *service.is_down.lock().unwrap() = false;
    recorder.flush().await.unwrap();
    assert_eq!(service.sizes().last().copied().unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn close_sends_pending_events_and_returns_unsent() {
    let service = Service::default();
    let recorder = service.recorder(RecorderSettings::new());
    recorder.record("acme", "calls", 1).unwrap();
    assert_eq!(recorder.clone().close(SECOND).await, []);
    assert_eq!(service.sizes(), [1]);
    assert_eq!(recorder.record("acme", "calls", 1), Err(NotRecorded::Closed));
    assert_eq!(recorder.flush().await, Err(NotRecorded::Closed));

    let service = Service::default();
    *service.is_down.lock().unwrap() = true;
    let recorder = service.recorder(RecorderSettings::new());
    for _ in 0..700 {
        recorder.record("acme", "calls", 1).unwrap();
    }
    let unsent = recorder.close(10 * SECOND).await;
    let sizes: Vec<_> = unsent.iter().map(|unsent| unsent.events.len()).collect();
    assert_eq!(sizes, [500, 200]);
    // The first batch was sent several times, always with the same request id; the second was never sent.
    let sent = service.requests();
    assert!(sent.len() > 1 && sent.iter().all(|(id, _)| *id == unsent[0].request_id));
    assert_eq!((&unsent[0].error, &unsent[1].error), (&Some(unreachable_error()), &None));
}

#[tokio::test(start_paused = true)]
async fn rejected_events_are_reported_and_others_continue() {
    let service = Service::default();
    let rejected: Arc<Mutex<Vec<UnsentUsage>>> = Arc::default();
    let settings = {
        let rejected = rejected.clone();
        RecorderSettings::new().on_refused(move |usage| rejected.lock().unwrap().push(usage))
    };
    let recorder = service.recorder(settings);
    let missing = Error::NotFound { message: String::new(), reason: None };
    service.will_answer(Ok(recorded(vec![(1, missing.clone())])));
    recorder.record("acme", "calls", 1).unwrap();
    recorder.record("nobody", "calls", 2).unwrap();
    recorder.flush().await.unwrap();
    let invalid = Error::Invalid { message: String::new(), violations: Vec::new() };
    service.will_answer(Err(invalid.clone()));
    recorder.record("acme", "calls", 3).unwrap();
    recorder.flush().await.unwrap();
    recorder.record("acme", "calls", 4).unwrap();
    recorder.flush().await.unwrap();

    assert_eq!(service.sizes(), [2, 1, 1]);
    let rejected = rejected.lock().unwrap();
    let quantities: Vec<_> = rejected.iter().map(|usage| usage.events[0].quantity).collect();
    let errors = (&rejected[0].error, &rejected[1].error);
    assert_eq!((quantities, errors), (vec![2, 3], (&Some(missing), &Some(invalid))));
}

#[tokio::test(start_paused = true)]
async fn dropped_recorder_sends_pending_events() {
    let service = Service::default();
    let recorder = service.recorder(RecorderSettings::new());
    recorder.record("acme", "calls", 1).unwrap();
    drop(recorder);
    tokio::time::sleep(SECOND).await;
    assert_eq!(service.sizes(), [1]);
}

#[tokio::test(start_paused = true)]
async fn invalid_events_are_rejected_on_record() {
    let service = Service::default();
    let recorder = service.recorder(RecorderSettings::new());
    let Err(NotRecorded::Invalid(violation)) = recorder.record("acme", "Not A Metric", 1) else {
        unreachable!("an invalid event was accepted");
    };
    assert_eq!(violation.field, "metric");
    assert_eq!(recorder.close(SECOND).await, []);
    assert!(service.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rejected_batch_is_bisected_to_the_bad_event() {
    let service = Service::default();
    service.reject_quantity(7);
    let rejected: Arc<Mutex<Vec<UnsentUsage>>> = Arc::default();
    let settings = {
        let rejected = rejected.clone();
        RecorderSettings::new().on_refused(move |usage| rejected.lock().unwrap().push(usage))
    };
    let recorder = service.recorder(settings);
    for number in 0..500 {
        recorder.record("acme", "calls", number).unwrap();
    }
    assert_eq!(recorder.close(SECOND).await, []);
    let rejected: Vec<_> = rejected.lock().unwrap().iter().flat_map(|usage| usage.events.clone()).collect();
    assert_eq!(rejected.iter().map(|event| event.quantity).collect::<Vec<_>>(), [7]);
    assert_eq!(service.counted(), 499);
}

#[tokio::test(start_paused = true)]
async fn max_durations_and_callback_panics_are_tolerated() {
    let service = Service::default();
    let settings = RecorderSettings::new().on_refused(|_| unreachable!("the callback panics"));
    let recorder = service.recorder(settings);
    let invalid = Error::Invalid { message: String::new(), violations: Vec::new() };
    service.will_answer(Err(invalid));
    recorder.record("acme", "calls", 1).unwrap();
    recorder.flush().await.unwrap();
    let later = Error::Unavailable { message: String::new(), reason: None, retry_after: Some(Duration::MAX) };
    service.will_answer(Err(later.clone()));
    recorder.record("acme", "calls", 2).unwrap();
    let unsent = recorder.close(Duration::MAX).await;
    assert_eq!((unsent.len(), &unsent[0].error), (1, &Some(later)));
}

#[tokio::test]
async fn invalid_recorder_settings_are_rejected() {
    let client = Client::builder("127.0.0.1:1").connect_lazy().unwrap();
    let settings = [
        (RecorderSettings::new().capacity(0), "capacity"),
        (RecorderSettings::new().capacity(usize::MAX), "capacity"),
        (RecorderSettings::new().longest_wait(Duration::ZERO), "longest_wait"),
        (RecorderSettings::new().longest_wait(Duration::MAX), "longest_wait"),
    ];
    for (settings, name) in settings {
        let error = UsageRecorder::start(client.clone(), settings).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn closed_client_returns_pending_events() {
    let client = Client::builder("127.0.0.1:1").connect_lazy().unwrap();
    let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new()).unwrap();
    client.close();
    recorder.record("acme", "calls", 1).unwrap();
    let unsent = recorder.close(SECOND * 3_600).await;
    assert_eq!((unsent.len(), &unsent[0].error), (1, &Some(Error::Closed)));
}
