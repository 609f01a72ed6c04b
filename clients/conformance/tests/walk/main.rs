//! Typical use of a client with several replicas of the real service: `cargo test -p tenant-auth-conformance
//! --test walk -- FILTER`.
//!
//! Each scene has its own database, replicas and client. The client is a separate program without its
//! near-cache, so that each call reaches a replica, and with its own timeout of one second. No scene asserts
//! times; the measurements are in the printed table. A scene that failed while the machine was overloaded
//! runs again.
#![allow(clippy::print_stderr, reason = "output for the terminal")]

mod distance;
mod environment;
mod link;
mod load;
mod names;
mod namespace;
mod options;
mod pki;
mod replicas;
mod stage;
mod stalls;
mod tls;
mod token;

use std::{path::Path, process::ExitCode, time::Instant};

use futures::future::LocalBoxFuture;
use tenant_auth_conformance::{
    harness::{self, Trial},
    language::{LANGUAGES, Language},
    report::Outcome,
};

/// The folder in which runners are built.
const RUNNER_BUILD_FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// Concurrent scenes: they mostly wait, but their calls have a timeout of one second. A scene runs alone if
/// the round trip takes a good part of that second, or if a client has to detect something within it.
const MAX_CONCURRENT_SCENES: usize = 4;

/// Maximum number of runs of a scene that fails on an overloaded machine.
const MAX_ATTEMPTS: usize = 4;

type Scene = fn(&'static Language) -> LocalBoxFuture<'static, anyhow::Result<Outcome>>;

/// All scenes by name.
const SCENES: [(&str, Scene); 17] = [
    ("walk: a replica is killed and replaced", |language| Box::pin(replicas::killed(language))),
    ("walk: a rolling restart of three replicas", |language| Box::pin(replicas::rolling_restart(language))),
    ("walk: one of two replicas hangs", |language| Box::pin(replicas::hung(language))),
    ("walk: round trips of 80 ms", |language| Box::pin(distance::round_trip_of_80_ms(language))),
    ("walk: round trips of 150 ms", |language| Box::pin(distance::round_trip_of_150_ms(language))),
    ("walk: names that appear late and move", |language| Box::pin(names::changing_names(language))),
    ("walk: a name with addresses of both families", |language| Box::pin(names::both_families(language))),
    ("walk: an IPv6 address", |language| Box::pin(names::ipv6(language))),
    ("walk: each address has its own certificate", |language| Box::pin(tls::own_certificates(language))),
    ("walk: mutual TLS under another name", |language| Box::pin(tls::mutual(language))),
    ("walk: a wrong authority is an error, not a wait", |language| Box::pin(tls::wrong_authority(language))),
    ("walk: a token that changes", |language| Box::pin(token::rotated(language))),
    ("walk: a token with a byte order mark and a newline", |language| Box::pin(token::trimmed(language))),
    ("walk: proxies of the environment are not used", |language| Box::pin(environment::proxies(language))),
    ("walk: invalid endpoints are rejected", |language| Box::pin(options::endpoints(language))),
    ("walk: invalid TLS files are rejected", |language| Box::pin(options::tls_files(language))),
    ("walk: invalid tokens are rejected", |language| Box::pin(options::tokens(language))),
];

/// Scenes that run alone.
const EXCLUSIVE_SCENES: [&str; 3] =
    ["walk: one of two replicas hangs", "walk: round trips of 80 ms", "walk: round trips of 150 ms"];

fn main() -> ExitCode {
    stalls::start_watching();
    let mut trials = Vec::new();
    for (name, scene) in SCENES {
        trials.extend(LANGUAGES.iter().map(|language| {
            let trial = Trial::new(name, language, move || play_with_retries(scene, language));
            if EXCLUSIVE_SCENES.contains(&name) { trial.exclusive() } else { trial }
        }));
    }
    harness::run(trials, MAX_CONCURRENT_SCENES, Path::new(RUNNER_BUILD_FOLDER))
}

/// Runs a scene, and repeats it if it failed while the machine was overloaded.
async fn play_with_retries(scene: Scene, language: &'static Language) -> anyhow::Result<Outcome> {
    for _ in 1..MAX_ATTEMPTS {
        let began = Instant::now();
        let played = scene(language).await;
        match (&played, stalls::reason_since(began)) {
            (Err(error), Some(why)) => eprintln!("PLAYED AGAIN: {why}: {}: {error:#}", language.name),
            _ => return played,
        }
    }
    scene(language).await
}
