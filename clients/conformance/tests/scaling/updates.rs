//! Changes of a key and of its tenant, under load: when each replica and each near-cache knows them.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tenant_auth_conformance::{
    WAIT_TIMEOUT,
    administration::{AdminClient, IssuedKey},
    language::{LANGUAGES, Language, is_every_tool_required},
    runner::Runner,
};
use tokio::{task::spawn_blocking, time::interval};

use crate::{
    cluster::{Cluster, EXCLUSIVE, REPLICAS, TENANT, print},
    load::Load,
};

/// The folder in which runners are built.
const RUNNER_BUILD_FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// How often a caller validates the key.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const ADDRESS: &str = "192.0.2.7";

/// A client of one replica.
struct Caller {
    /// What the slowest times are printed for.
    group: &'static str,
    runner: Runner,
}

impl Caller {
    async fn start(
        group: &'static str,
        language: &Language,
        address: String,
        has_near_cache: bool,
    ) -> anyhow::Result<Self> {
        let mut variables = BTreeMap::from([("TENANT_AUTH_ENDPOINTS".to_owned(), address)]);
        if !has_near_cache {
            variables.insert("TENANT_AUTH_NEAR_CACHE".to_owned(), "off".to_owned());
        }
        let runner = Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &variables).await?;
        let caller = Self { group, runner };
        if has_near_cache {
            let is_live = |answer: &Value| answer["live"] == true;
            caller.until(&json!({ "op": "watch_state" }), is_live).await?;
        }
        Ok(caller)
    }

    /// Repeats a command until its answer is as expected.
    async fn until(&self, command: &Value, is_expected: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut turns = interval(POLL_INTERVAL);
        loop {
            turns.tick().await;
            let answer = self.runner.send_command(command.clone()).await?;
            if is_expected(&answer) {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < WAIT_TIMEOUT, "{}: {command}: {answer}", self.group);
        }
    }
}

/// Starts one caller of each replica for each language that this machine has, and one without near-cache.
async fn start_callers(cluster: &Cluster) -> Vec<Caller> {
    let mut languages = Vec::new();
    for language in &LANGUAGES {
        match language.missing_tool() {
            Some(tool) => {
                print(&format!(
                    "\nSKIPPED: the near-cache of {}: `{tool}` does not work here\n",
                    language.name
                ));
                assert!(!is_every_tool_required(), "CI needs {tool}");
            }
            None => languages.push(language),
        }
    }
    let prepare = |language: &'static Language| {
        spawn_blocking(move || language.prepare(Path::new(RUNNER_BUILD_FOLDER)))
    };
    for prepared in join_all(languages.iter().copied().map(prepare)).await {
        prepared.unwrap().unwrap();
    }
    let addresses = || cluster.replicas.iter().map(|replica| replica.address.to_string());
    let near = languages.iter().flat_map(|language| {
        addresses().map(|address| Caller::start(language.name, language, address, true))
    });
    let of_replicas = addresses().map(|address| Caller::start("replica", &LANGUAGES[0], address, false));
    let (mut callers, near) = futures::try_join!(try_join_all(of_replicas), try_join_all(near)).unwrap();
    callers.extend(near);
    callers
}

/// What is changed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Scopes(&'static [&'static str]),
    Networks(&'static [&'static str]),
    Enabled(bool),
    Plan(&'static str),
}

/// Changes and the verdict after each. The key has both scopes at the beginning.
const CHANGES: [(Change, &str); 8] = [
    (Change::Scopes(&["orders:read"]), "INSUFFICIENT_SCOPE"),
    (Change::Scopes(&["orders:read", "orders:write"]), "VALID"),
    (Change::Networks(&["198.51.100.0/24"]), "ADDRESS_NOT_ALLOWED"),
    (Change::Networks(&[]), "VALID"),
    (Change::Enabled(false), "DISABLED"),
    (Change::Enabled(true), "VALID"),
    (Change::Plan("enterprise"), "VALID"),
    (Change::Plan("pro"), "VALID"),
];

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Scopes(_) => "scopes",
            Self::Networks(_) => "networks",
            Self::Enabled(_) => "enabled",
            Self::Plan(_) => "plan",
        }
    }

    async fn send(self, operator: &mut AdminClient, key: &IssuedKey) -> anyhow::Result<()> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        match self {
            Self::Scopes(scopes) => operator.set_key_scopes(&key.key_id, &owned(scopes)).await,
            Self::Networks(networks) => operator.set_key_networks(&key.key_id, &owned(networks)).await,
            Self::Enabled(enabled) => operator.set_key_enabled(&key.key_id, enabled).await,
            Self::Plan(plan) => operator.set_plan(TENANT, plan).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_replicas_and_near_caches_under_load() {
    const ROUNDS: usize = 6;
    const TASKS: usize = 8;

    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(24).await;
    let mut operators: Vec<_> =
        cluster.replicas.iter().map(|replica| AdminClient::connect(replica.address).unwrap()).collect();
    let scopes = ["orders:read", "orders:write"].map(str::to_owned);
    let changed = operators[0].issue_key("changed", TENANT, &scopes, None).await.unwrap();
    let callers = start_callers(&cluster).await;
    let validate = json!({
        "op": "validate_key", "key": changed.plaintext, "scopes": ["orders:write"], "client_address": ADDRESS,
    });
    let (validate, callers) = (&validate, &callers);
    let load = Load::start(&cluster.client_of_all_replicas(), &keys, TASKS);
    load.until_more_calls(500).await;

    let mut slowest: BTreeMap<(&str, &str), Duration> = BTreeMap::new();
    let mut plan = "pro";
    for round in 0..ROUNDS {
        for (change, verdict) in CHANGES {
            if let Change::Plan(changed) = change {
                plan = changed;
            }
            // By each replica in turn.
            change.send(&mut operators[round % REPLICAS], &changed).await.unwrap();
            let began = Instant::now();
            let observed = callers.iter().map(|caller| async move {
                let is_known = |answer: &Value| answer["verdict"] == verdict && answer["plan"] == plan;
                caller.until(validate, is_known).await.map(|()| (caller.group, began.elapsed()))
            });
            for (group, time) in try_join_all(observed).await.unwrap() {
                let worst = slowest.entry((group, change.name())).or_default();
                *worst = time.max(*worst);
            }
        }
    }
    let results = load.stop().await;
    let kinds = ["scopes", "networks", "enabled", "plan"];
    print(&format!(
        "\n{} changes under load of {TASKS} tasks ({} calls): the longest time in ms from the response until a caller of each \
         replica sees it, by kind {kinds:?}\n",
        ROUNDS * CHANGES.len(),
        results.answered
    ));
    let mut groups: Vec<_> = callers.iter().map(|caller| caller.group).collect();
    groups.dedup();
    for group in groups {
        let times = kinds.map(|kind| slowest[&(group, kind)].as_millis());
        print(&format!("{group:>12} {times:?}\n"));
    }
    assert!(results.errors.is_empty(), "{:#?}", &results.errors[..results.errors.len().min(10)]);
    assert!(results.wrong.is_empty(), "{:#?}", &results.wrong[..results.wrong.len().min(10)]);
}
