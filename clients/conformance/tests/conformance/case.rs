//! Cases as they are written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

/// A story: what there is, what is done, and what has to come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique among all cases.
    pub(crate) name: String,
    /// How the client is set up.
    #[serde(default)]
    pub(crate) client: ClientSettings,
    /// Variables of the service, beside those that every case has.
    #[serde(default)]
    pub(crate) service: BTreeMap<String, String>,
    /// Tenants that there are, by id.
    #[serde(default)]
    pub(crate) tenants: Vec<String>,
    /// Keys that there are, by the name that the steps have for them.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, KeySpec>,
    pub(crate) steps: Vec<Step>,
}

/// How a client is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClientSettings {
    pub(crate) near_cache: bool,
    pub(crate) watch: bool,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { near_cache: true, watch: true }
    }
}

/// A key to issue.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeySpec {
    pub(crate) tenant: String,
    #[serde(default)]
    pub(crate) scopes: Vec<String>,
    /// Counted from when it is issued; without, it has no end.
    pub(crate) expires_in_ms: Option<u64>,
}

/// What happens next.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Step {
    Call(Box<Call>),
    Do {
        #[serde(rename = "do")]
        deed: Action,
    },
}

/// A command to the client's runner, and what has to come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// `$name` stands for the plaintext of a key, `$name.id` for its id, `{"$now": N}` for N ms from now,
    /// `{"$times": [TEXT, N]}` for a text so many times over.
    pub(crate) call: Value,
    /// What the answer must hold, at least: see [`crate::expect`].
    pub(crate) answer: Value,
    /// How many calls must have reached the service by then, by method; methods that are not named, none. `HealthWatch` and
    /// `Check` count only where they are named. Without this, nothing is said about their number.
    pub(crate) rpcs: Option<BTreeMap<String, Value>>,
    /// Whether to ask again until the answer is as expected.
    #[serde(default)]
    pub(crate) until: bool,
}

/// Something that happens elsewhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Withdraws a key, by its name.
    Revoke(String),
    /// Ends a session, past the client.
    Unbind(SessionRef),
    Suspend(String),
    Resume(String),
    Database(DatabaseAction),
    Service(ServiceAction),
    /// What the proxy does with calls of a method, in place of the service.
    Network(Disturbance),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionRef {
    pub(crate) session_id: String,
    pub(crate) tenant_id: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatabaseAction {
    /// Refuses connections.
    Stops,
    Starts,
    /// Takes requests and answers none.
    Hangs,
    /// Answers each request with 503.
    Refuses,
    /// Answers again.
    Recovers,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceAction {
    /// Is killed; its address refuses connections.
    Stops,
    /// Is started anew, at the same address.
    Starts,
}

/// What the proxy does with the next calls of a method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disturbance {
    pub(crate) method: String,
    /// How many calls; without, all of them; none ends what was said about the method before.
    pub(crate) times: Option<u64>,
    pub(crate) with: FakeAnswer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FakeAnswer {
    /// No answer, ever.
    Silence,
    /// This status.
    Status {
        /// The number of a gRPC code.
        code: i32,
        /// When to call again.
        retry_after_ms: Option<u64>,
    },
    /// A `ValidateKeyResponse` with this verdict and nothing else.
    Verdict(i32),
}

/// Reads all cases of a folder: each file holds a list.
pub(crate) fn read_all(folder: &Path) -> anyhow::Result<Vec<Case>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    let mut all: Vec<Case> = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)?;
        let cases: Vec<Case> = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        all.extend(cases);
    }
    let names: BTreeSet<_> = all.iter().map(|case| &case.name).collect();
    anyhow::ensure!(names.len() == all.len(), "two cases have the same name");
    anyhow::ensure!(!all.is_empty(), "there are no cases");
    Ok(all)
}
