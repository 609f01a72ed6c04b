//! Counts RPCs: how many, how they ended, how long they took, and what they decided.
//!
//! Nothing on its way is shared between threads: see [`counts`](crate::instruments::counts).

use std::{sync::Arc, time::Instant};

use http::Request;
use tonic::Code;

use super::rpc_observer::Follower;
use crate::{
    domain::{
        access,
        verdict::{Source, Verdict},
    },
    grpc::{
        context::RpcRecord,
        tally::{Tallied, Tally},
    },
    instruments::{
        counts::{Counts, Shard},
        durations::{self, Distribution},
    },
};

/// What is asked for and is no RPC of ours.
pub(super) const OTHER: &str = "other";

/// The status codes by number, in their canonical spelling.
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

// Of one RPC: begun, ended with each code, how long they took.
const ENDED: usize = 1;
const TOOK: usize = ENDED + CODES.len();
const SLOTS: usize = TOOK + durations::SLOTS;

/// Where the slots of an RPC begin. What was decided comes before all of them.
fn slots(rpc: usize) -> usize {
    Tallied::COUNT + rpc * SLOTS
}

/// The counts of all RPCs.
#[derive(Debug)]
pub struct Rpcs(Counts);

/// The numbers of one RPC.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Its name, as `tenantauth.v1.InfoService/GetServerInfo`.
    pub name: &'static str,
    /// How many have begun and not ended.
    pub in_flight: u64,
    /// How many have ended with each of [`CODES`].
    pub ended: [u64; CODES.len()],
    /// How long they took.
    pub took: Distribution,
}

impl Default for Rpcs {
    fn default() -> Self {
        Self(Counts::new(slots(names().count())))
    }
}

impl Rpcs {
    /// The numbers of every RPC there is, and of all that there is not.
    pub fn numbers(&self) -> impl Iterator<Item = Numbers> {
        names().enumerate().map(|(rpc, name)| {
            let first = slots(rpc);
            let ended = std::array::from_fn(|code| self.0.get(first + ENDED + code));
            // After the ended ones, so that there are never fewer.
            let begun = self.0.get(first);
            let in_flight = begun.saturating_sub(ended.iter().sum());
            Numbers { name, in_flight, ended, took: durations::read(&self.0, first + TOOK) }
        })
    }

    /// Counts an RPC that was answered from memory at once.
    pub fn hit(&self, path: &str, decisions: &[(Verdict, Source)], started: Instant) {
        let slots = slots(rpc(path));
        let shard = self.0.mine();
        for (verdict, source) in decisions {
            shard.add(Tallied::Verdict((*verdict).into()).place(), 1);
            shard.add(Tallied::Source(*source).place(), 1);
        }
        shard.add(slots, 1);
        shard.add(slots + ENDED + Code::Ok as usize, 1);
        durations::note(shard, slots + TOOK, started.elapsed());
    }

    /// How many keys and sessions came to this.
    #[must_use]
    pub fn tallied(&self, what: Tallied) -> u64 {
        self.0.get(what.place())
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    access::rules().map(|(path, _)| path.trim_start_matches('/')).chain([OTHER])
}

/// The name of the RPC at a path: one of ours, or that of all that are not.
pub(super) fn name(path: &str) -> &'static str {
    let known = access::rules().find(|(rpc, _)| *rpc == path);
    known.map_or(OTHER, |(rpc, _)| rpc.trim_start_matches('/'))
}

/// The number of the RPC at a path. A caller can make up paths, and no names of metrics with them.
fn rpc(path: &str) -> usize {
    // The most frequent ones come first, and most differ in length already.
    let place = access::rules().position(|(rpc, _)| rpc == path);
    place.unwrap_or_else(|| access::rules().count())
}

/// Counts one RPC.
#[derive(Debug)]
pub struct Counting {
    /// That of the thread on which the RPC came: its connection stays there.
    shard: Arc<Shard>,
    slots: usize,
    record: Option<RpcRecord>,
    started: Instant,
}

impl Counting {
    /// Counts one that begins.
    pub(super) fn of<In>(rpcs: &Rpcs, request: &Request<In>) -> Self {
        let slots = slots(rpc(request.uri().path()));
        let shard = Arc::clone(rpcs.0.mine());
        shard.add(slots, 1);
        let record = request.extensions().get::<RpcRecord>().cloned();
        Self { shard, slots, record, started: Instant::now() }
    }

    fn take_over(&self, tally: &Tally) {
        tally.take(|place, number| self.shard.add(place, u64::from(number)));
    }
}

impl Follower for Counting {
    type Held = ();

    fn enter(&self) {}

    fn piece(&mut self) {
        if let Some(record) = &self.record {
            self.take_over(record.tally());
        }
    }

    fn end(&mut self, code: Option<Code>) {
        self.piece();
        let is = |what: fn(&RpcRecord) -> bool| self.record.as_ref().is_some_and(what);
        let code = match code.unwrap_or(Code::Cancelled) {
            // What the caller did wrong must not look like a service that has too much to do.
            Code::ResourceExhausted if is(RpcRecord::is_too_large) => Code::InvalidArgument,
            // Nor must a crowd of those whom nobody knows: with more places they would be refused all the same.
            Code::ResourceExhausted if is(RpcRecord::is_of_stranger) => Code::Unauthenticated,
            code => code,
        };
        self.shard.add(self.slots + ENDED + code as usize, 1);
        durations::note(&self.shard, self.slots + TOOK, self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Uri;
    use tonic::Status;
    use tower::{Layer as _, ServiceExt as _};

    use super::*;
    use crate::middleware::observability::RpcObserverLayer;

    #[test]
    fn codes_are_spelt_by_number() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
        }
    }

    /// How many ended with `code`, when one that is refused as too many ends as that of `record`.
    async fn refused_as(record: RpcRecord, code: Code) -> u64 {
        let rpcs = Arc::new(Rpcs::default());
        let refuses = tower::service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Status::resource_exhausted("").into_http::<String>())
        });
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/tenantauth.v1.ValidationService/ValidateKey");
        request.extensions_mut().insert(record);
        let _answer = RpcObserverLayer::new(Arc::clone(&rpcs)).layer(refuses).oneshot(request).await;
        rpcs.numbers().map(|numbers| numbers.ended[code as usize]).sum()
    }

    #[tokio::test]
    async fn a_stranger_refused_for_want_of_a_place_is_unauthenticated() {
        assert_eq!(refused_as(RpcRecord::of_stranger(), Code::Unauthenticated).await, 1);
        assert_eq!(refused_as(RpcRecord::of_stranger(), Code::ResourceExhausted).await, 0);
        assert_eq!(refused_as(RpcRecord::default(), Code::ResourceExhausted).await, 1);
    }

    #[test]
    fn a_made_up_path_has_no_name_of_its_own() {
        let names: Vec<_> = names().collect();
        assert_eq!(
            names[rpc("/tenantauth.v1.ValidationService/ValidateKey")],
            "tenantauth.v1.ValidationService/ValidateKey"
        );
        for made_up in ["", "/", "/other", "/tenantauth.v1.ValidationService/validatekey", "/a.b/C"] {
            assert_eq!(names[rpc(made_up)], OTHER, "{made_up}");
        }
    }
}
