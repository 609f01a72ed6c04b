//! The attacks.

use std::any::Any;

use futures::future::{BoxFuture, join_all};
use prost::Message;
use tenant_auth_proto::v1;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tonic_health::pb::HealthCheckRequest;

use crate::harness::{
    raw_peer::{RawPeer, ResponseHead, SentRequest, grpc_frame},
    unknown_key,
    victim::{GREEDY_TOKEN, ProcessLimits, Victim},
};

const VALIDATE: &str = "/tenantauth.v1.ValidationService/ValidateKey";
pub(super) const BATCH: &str = "/tenantauth.v1.ValidationService/BatchValidateKeys";
pub(super) const STREAM: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
const WATCH: &str = "/tenantauth.v1.WatchService/Watch";
const LIST: &str = "/tenantauth.v1.AdminService/ListAuditEvents";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
/// One less than the maximum number of concurrent streams on a connection.
pub(super) const STREAMS_PER_CONNECTION: usize = 199;
/// A window size that lets no byte of a response body through.
pub(super) const CLOSED_WINDOW: u32 = 0;
pub(super) const OPEN_WINDOW: u32 = 65_535;

/// A low limit of file descriptors.
pub(super) const FEW_DESCRIPTORS: ProcessLimits = ProcessLimits { descriptors: Some(64) };

/// The result of an attack. Dropping it ends the attack.
pub(super) struct AttackOutcome {
    /// Describes what the attacker received.
    pub(super) description: String,
    pub(super) held_resources: Box<dyn Any + Send>,
}

impl AttackOutcome {
    pub(super) fn new(got: String, held: impl Any + Send) -> Self {
        Self { description: got, held_resources: Box::new(held) }
    }
}

/// An attack: its name and how it runs.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) limits: ProcessLimits,
    run_on: for<'a> fn(&'a Victim) -> BoxFuture<'a, AttackOutcome>,
}

impl Attack {
    pub(super) async fn run(&self, victim: &Victim) -> AttackOutcome {
        (self.run_on)(victim).await
    }
}

const fn new_attack(
    name: &'static str,
    make: for<'a> fn(&'a Victim) -> BoxFuture<'a, AttackOutcome>,
) -> Attack {
    Attack { name, limits: ProcessLimits { descriptors: None }, run_on: make }
}

/// All attacks.
pub(super) const ALL: &[Attack] = &[
    new_attack("health watches of an unknown caller, 20 x 199", |victim| {
        Box::pin(flood_requests(victim, 20, OPEN_WINDOW, HEALTH_WATCH, None, HealthCheckRequest::default()))
    }),
    new_attack("reflection streams of an unknown caller, 20 x 199", |victim| {
        Box::pin(flood_requests(victim, 20, OPEN_WINDOW, REFLECTION, None, HealthCheckRequest::default()))
    }),
    new_attack("a stranger's checks, unread, 20 x 199", |victim| {
        Box::pin(flood_requests(victim, 20, CLOSED_WINDOW, CHECK, None, HealthCheckRequest::default()))
    }),
    new_attack("validations, unread, 60 x 199", |victim| {
        let request = v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() };
        Box::pin(flood_requests(victim, 60, CLOSED_WINDOW, VALIDATE, Some(GREEDY_TOKEN), request))
    }),
    new_attack("batches of 1,000 keys, unread, 12 x 100", |victim| {
        let one = || v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() };
        let request = v1::BatchValidateKeysRequest { requests: (0..1_000).map(|_| one()).collect() };
        Box::pin(async move {
            let mut streams = OpenRequests::default();
            streams.open_requests(victim, 12, 100, CLOSED_WINDOW, BATCH, Some(GREEDY_TOKEN), &request).await;
            streams.outcome()
        })
    }),
    new_attack("an operator's listings, unread, 12 x 100", |victim| {
        Box::pin(async move {
            fill_audit_log(victim);
            let request = v1::ListAuditEventsRequest { page_size: 1_000, ..Default::default() };
            let mut streams = OpenRequests::default();
            streams.open_requests(victim, 12, 100, CLOSED_WINDOW, LIST, Some(GREEDY_TOKEN), &request).await;
            streams.outcome()
        })
    }),
    new_attack("resumed watches, unread, 10 x 190", |victim| Box::pin(reset_repeatedly(victim))),
    new_attack("validation streams, idle, 60 x 199", |victim| {
        Box::pin(async move {
            let mut streams = OpenRequests::default();
            let nothing = v1::StreamValidateKeysRequest::default();
            streams
                .open_requests(
                    victim,
                    60,
                    STREAMS_PER_CONNECTION,
                    OPEN_WINDOW,
                    STREAM,
                    Some(GREEDY_TOKEN),
                    &nothing,
                )
                .await;
            streams.outcome()
        })
    }),
    new_attack("unknown keys, 20 x 199 x 10", |victim| Box::pin(look_up_unknown_keys(victim))),
    new_attack("unknown paths of 15 KB, 20 x 100", |victim| {
        Box::pin(async move {
            let path = format!("/{}", "x".repeat(15_000));
            let mut streams = OpenRequests::default();
            let nothing = HealthCheckRequest::default();
            streams.open_requests(victim, 20, 100, OPEN_WINDOW, &path, None, &nothing).await;
            streams.outcome()
        })
    }),
    new_attack("half of a long request, 60 x 1", |victim| Box::pin(send_unfinished_requests(victim))),
    new_attack("a hundred calls cancelled at once, 100 times", |victim| {
        Box::pin(cancel_requests(victim, 100, true))
    }),
    new_attack("a hundred calls cancelled at once, 1,000 times", |victim| {
        Box::pin(cancel_requests(victim, 1_000, false))
    }),
    new_attack("idle connections to the ops port, 193", |victim| Box::pin(hold_idle_ops_connections(victim))),
    Attack {
        name: "64 file descriptors, 120 connections",
        limits: FEW_DESCRIPTORS,
        run_on: |victim| Box::pin(open_many_connections(victim)),
    },
];

/// Requests that were sent, and their outcomes.
#[derive(Default)]
pub(super) struct OpenRequests {
    answered: usize,
    refused: usize,
    ended: usize,
    held: Vec<Box<dyn Any + Send>>,
}

impl OpenRequests {
    #[expect(clippy::too_many_arguments, reason = "each argument is a column of the table")]
    pub(super) async fn open_requests(
        &mut self,
        victim: &Victim,
        connections: usize,
        each: usize,
        window: u32,
        path: &str,
        token: Option<&str>,
        message: &impl Message,
    ) {
        for _ in 0..connections {
            let Some(peer) = RawPeer::connect(victim.address, window).await else {
                self.ended += each;
                continue;
            };
            let asked = join_all((0..each).map(|_| peer.send_request(path, token, message))).await;
            self.ended += asked.iter().filter(|asked| asked.is_none()).count();
            for head in join_all(asked.into_iter().flatten().map(SentRequest::response_head)).await {
                match head {
                    ResponseHead::Answered(body) => {
                        self.answered += 1;
                        self.held.push(Box::new(body));
                    }
                    ResponseHead::Refused => self.refused += 1,
                    ResponseHead::Ended => self.ended += 1,
                }
            }
            self.held.push(Box::new(peer));
        }
    }

    pub(super) fn outcome(self) -> AttackOutcome {
        let Self { answered, refused, ended, held } = self;
        AttackOutcome::new(format!("{answered} answered, {refused} refused, {ended} ended"), held)
    }
}

async fn flood_requests(
    victim: &Victim,
    connections: usize,
    window: u32,
    path: &str,
    token: Option<&str>,
    message: impl Message,
) -> AttackOutcome {
    let mut streams = OpenRequests::default();
    streams.open_requests(victim, connections, STREAMS_PER_CONNECTION, window, path, token, &message).await;
    streams.outcome()
}

fn fill_audit_log(victim: &Victim) {
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
                SELECT i, 'caller', 'key.revoke', 'key_' || i, '', 'request', hex(zeroblob(100)) FROM n";
    victim.database.execute(fill).unwrap();
}

/// Uses a different key each time, so that the cache cannot answer.
async fn look_up_unknown_keys(victim: &Victim) -> AttackOutcome {
    let mut streams = OpenRequests::default();
    for _ in 0..20 {
        let Some(peer) = RawPeer::connect(victim.address, OPEN_WINDOW).await else { continue };
        for _ in 0..10 {
            let ask = async |_| {
                let request = v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() };
                let asked = peer.send_request(VALIDATE, Some(GREEDY_TOKEN), &request).await;
                let mut head = join_all(asked.map(SentRequest::response_head)).await.pop();
                if let Some(ResponseHead::Answered(body)) = &mut head {
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                }
                head
            };
            for head in join_all((0..STREAMS_PER_CONNECTION).map(ask)).await {
                match head {
                    Some(ResponseHead::Answered(_)) => streams.answered += 1,
                    Some(ResponseHead::Refused) => streams.refused += 1,
                    Some(ResponseHead::Ended) | None => streams.ended += 1,
                }
            }
        }
    }
    streams.outcome()
}

async fn reset_repeatedly(victim: &Victim) -> AttackOutcome {
    let last = || {
        let rows = victim.database.query("SELECT max(seq) FROM changes").unwrap();
        rows[0][0]["value"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let before = last();
    let change = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
                  INSERT INTO tenants (id, name, created_at, updated_at) SELECT 'many-' || i, 'x', 0, 0 FROM n";
    victim.database.execute(change).unwrap();
    // The server streams every change to a subscriber that reads, so when it has received them all, the
    // replica has polled them all.
    let reader = RawPeer::connect(victim.address, OPEN_WINDOW * 1_000).await.unwrap();
    let request = v1::WatchRequest { resume_after_revision: before };
    let ResponseHead::Answered(mut body) =
        reader.send_request(WATCH, Some(GREEDY_TOKEN), &request).await.unwrap().response_head().await
    else {
        panic!("refused")
    };
    let mut read = 0;
    while read < 9_000 * 20 {
        let data = body.data().await.unwrap().unwrap();
        read += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    let mut streams = OpenRequests::default();
    streams.open_requests(victim, 10, 190, 16, WATCH, Some(GREEDY_TOKEN), &request).await;
    streams.outcome()
}

/// Sends almost all of a request of the maximum length, and then stops.
pub(super) async fn send_unfinished_requests(victim: &Victim) -> AttackOutcome {
    let one = || v1::ValidateKeyRequest { key: "x".repeat(800), ..Default::default() };
    let full_message =
        grpc_frame(&v1::BatchValidateKeysRequest { requests: (0..1_000).map(|_| one()).collect() });
    let mut held: Vec<Box<dyn Any + Send>> = Vec::new();
    for _ in 0..60 {
        let Some(peer) = RawPeer::connect(victim.address, OPEN_WINDOW).await else { continue };
        if let Some(mut asked) = peer.open(BATCH, Some(GREEDY_TOKEN)).await {
            let _ = asked.body.send_data(full_message.slice(..full_message.len() - 1), false);
            held.push(Box::new(asked));
        }
        held.push(Box::new(peer));
    }
    AttackOutcome::new(format!("60 times {} KiB are accepted or rejected", full_message.len() / 1_024), held)
}

/// Acts like a proxy whose clients repeatedly cancel their requests. If `with_others` is set, other calls on
/// the connection are answered meanwhile.
async fn cancel_requests(victim: &Victim, times: usize, with_others: bool) -> AttackOutcome {
    let (mut answered, mut ended) = (0, 0);
    let mut peer = RawPeer::connect(victim.address, OPEN_WINDOW).await.unwrap();
    for _ in 0..times {
        let given_up = join_all((0..100).map(|_| peer.open(VALIDATE, Some(GREEDY_TOKEN)))).await;
        let mut goes_on = given_up.iter().all(Option::is_some);
        drop(given_up);
        if with_others {
            let asked = peer.send_request(CHECK, Some(GREEDY_TOKEN), &HealthCheckRequest::default()).await;
            goes_on = matches!(
                join_all(asked.map(SentRequest::response_head)).await.pop(),
                Some(ResponseHead::Answered(_))
            );
            answered += usize::from(goes_on);
        }
        if !goes_on {
            ended += 1;
            peer = RawPeer::connect(victim.address, OPEN_WINDOW).await.unwrap();
        }
    }
    AttackOutcome::new(format!("its connection ended {ended} times, {answered} others were answered"), peer)
}

async fn hold_idle_ops_connections(victim: &Victim) -> AttackOutcome {
    let mut held = Vec::new();
    for _ in 0..193 {
        let mut idle = TcpStream::connect(victim.ops).await.unwrap();
        idle.write_all(b"GET /livez HT").await.unwrap();
        held.push(idle);
    }
    AttackOutcome::new("the newest connections are open".to_owned(), held)
}

async fn open_many_connections(victim: &Victim) -> AttackOutcome {
    let mut held = Vec::new();
    let mut closed = 0;
    for _ in 0..120 {
        let Some(peer) = RawPeer::connect(victim.address, OPEN_WINDOW).await else {
            closed += 1;
            continue;
        };
        let asked = peer.send_request(CHECK, None, &HealthCheckRequest::default()).await;
        match join_all(asked.map(SentRequest::response_head)).await.pop() {
            Some(ResponseHead::Answered(_)) => held.push(peer),
            _ => closed += 1,
        }
    }
    // Frees descriptors that the well-behaved caller and the probe need briefly. The server notices the
    // closed connections a little later.
    held.truncate(held.len().saturating_sub(2));
    let and_the_good_one = held.len() + 1;
    victim.until_connections(|live| live <= and_the_good_one).await;
    AttackOutcome::new(format!("{} connections, {closed} closed at once", held.len()), held)
}
