//! The file format of the cases.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use tenant_auth_conformance::administration::{CreditsToAdd, LimitOfTenant, NewLimit};

/// A case: the initial state, the steps and the expected results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique among all cases.
    pub(crate) name: String,
    /// The client's configuration.
    #[serde(default)]
    pub(crate) client: ClientSettings,
    /// Variables of the service, in addition to the common ones.
    #[serde(default)]
    pub(crate) service: BTreeMap<String, String>,
    /// Ids of the initial tenants.
    #[serde(default)]
    pub(crate) tenants: Vec<String>,
    /// The initial keys, by the name that the steps use.
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, KeySpec>,
    pub(crate) steps: Vec<Step>,
}

/// The configuration of a client.
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
    /// Time from issue to expiry; `None` for a key without an expiry.
    pub(crate) expires_in_ms: Option<u64>,
    /// Networks from which it may be used; none for everywhere.
    #[serde(default)]
    pub(crate) allowed_networks: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Step {
    Call(Box<Call>),
    Do {
        #[serde(rename = "do")]
        deed: Action,
    },
}

/// A command for the client's runner, and the expected result.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// `$name` is replaced by the plaintext of a key, `$name.id` by its id, `{"$now": N}` by the time in N
    /// ms, `{"$times": [TEXT, N]}` by the text repeated N times.
    pub(crate) call: Value,
    /// The fields that the answer must have at least: see [`crate::expect`].
    pub(crate) answer: Value,
    /// The number of calls that must have reached the service, by method; zero for methods that are not
    /// named. `HealthWatch` and `Check` count only if they are named. If absent, the calls are not checked.
    pub(crate) rpcs: Option<BTreeMap<String, Value>>,
    /// Whether to repeat the command until the answer is as expected.
    #[serde(default)]
    pub(crate) until: bool,
}

/// An action outside the client.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Revokes a key, given by its name.
    Revoke(String),
    /// Disables a key.
    Pause(String),
    /// Enables a key again.
    Unpause(String),
    /// Replaces all scopes of a key.
    Scopes(NewScopes),
    /// Replaces all networks of a key.
    Networks(NewNetworks),
    /// Sets the plan of a tenant.
    Plan(NewPlan),
    /// Unbinds a session without using the client.
    Unbind(SessionRef),
    Suspend(String),
    Resume(String),
    /// Sets a limit, of a key by its name.
    Limit(Box<NewLimit>),
    DeleteLimit(LimitOfTenant),
    AddCredits(CreditsToAdd),
    Database(DatabaseAction),
    Service(ServiceAction),
    /// Sets the response of the proxy to calls of a method, instead of the service's.
    Network(Disturbance),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewScopes {
    pub(crate) key: String,
    pub(crate) scopes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewNetworks {
    pub(crate) key: String,
    pub(crate) networks: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPlan {
    pub(crate) tenant: String,
    pub(crate) plan: String,
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
    /// Accepts requests and does not respond.
    Hangs,
    /// Answers each request with 503.
    Refuses,
    /// Responds again.
    Recovers,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceAction {
    /// Is killed; its address refuses connections.
    Stops,
    /// Is started again on the same address.
    Starts,
}

/// The response of the proxy to the next calls of a method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disturbance {
    pub(crate) method: String,
    /// Number of calls; all if absent; zero removes the previous setting of the method.
    pub(crate) times: Option<u64>,
    pub(crate) with: FakeAnswer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FakeAnswer {
    /// No response.
    Silence,
    /// This status.
    Status {
        /// The number of a gRPC code.
        code: i32,
        /// The retry delay that the error suggests.
        retry_after_ms: Option<u64>,
    },
    /// A `ValidateKeyResponse` with only this verdict.
    Verdict(i32),
}

/// Reads all cases of a folder: each file contains a list.
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
