//! Runs a case: with a database, a service, a proxy in front of it, an operator and a client.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tenant_auth_conformance::{
    WAIT_TIMEOUT,
    administration::{AdminClient, IssuedKey},
    language::Language,
    port,
    runner::Runner,
    service::Service,
};
use tenant_auth_testkit::{Fault, HranaServer};
use tokio::time::{Instant, interval};

use crate::{
    case::{self, Action, Call, Case, Step},
    expect,
    proxy::Proxy,
};

/// Interval for polling state that only another process has.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Settings of every service here, in addition to the common ones.
const SERVICE_SETTINGS: [(&str, &str); 2] = [
    ("TENANT_AUTH_DRAIN_DELAY", "0s"),
    // Changes are polled often, so that waiting for them is short.
    ("TENANT_AUTH_FEED_INTERVAL", "50ms"),
];

struct CaseRun<'a> {
    case: &'a Case,
    database: HranaServer,
    /// `None` while it is stopped.
    service: Option<Service>,
    proxy: Proxy,
    operator: AdminClient,
    keys: BTreeMap<&'a str, IssuedKey>,
    runner: Runner,
}

/// Runs a case with the client of a language. Runners are built in `out`.
pub(crate) async fn play(case: &Case, language: &Language, out: &Path) -> anyhow::Result<()> {
    let database = HranaServer::builder().address(port::reserve_address()?).start().await?;
    let service = start_service(&database, case).await?;
    let proxy = Proxy::start(service.address)?;
    let variables = client_variables(&case.client, &proxy);
    let mut operator = AdminClient::connect(service.address)?;
    let (runner, keys) =
        tokio::join!(Runner::start(language, out, &variables), create_tenants_and_keys(case, &mut operator));
    let (runner, (keys, revision)) = (runner?, keys?);
    // Changes that arrive later would cause calls, correctly.
    if let (true, true, Some(revision)) = (case.client.near_cache, case.client.watch, revision) {
        let expected_watch = json!({ "live": true, "revision": { "at_least": revision } });
        call_until_expected(&runner, &json!({ "op": "watch_state" }), &expected_watch, WAIT_TIMEOUT).await?;
    }
    let mut case_run = CaseRun { case, database, service: Some(service), proxy, operator, keys, runner };
    for (number, step) in case.steps.iter().enumerate() {
        let done = match step {
            Step::Call(call) => case_run.call(call).await,
            Step::Do { deed } => case_run.perform(deed).await,
        };
        done.with_context(|| format!("step {} of {}", number + 1, case.steps.len()))?;
    }
    case_run.runner.close().await
}

/// Starts a service and waits until it is ready.
async fn start_service(database: &HranaServer, case: &Case) -> anyhow::Result<Service> {
    let mut settings = SERVICE_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    BTreeMap::extend(&mut settings, case.service.clone());
    let service = Service::start(&database.url(), &settings)?;
    service.until_ready().await?;
    Ok(service)
}

/// Returns the variables of the client's runner.
fn client_variables(client: &case::ClientSettings, proxy: &Proxy) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([("TENANT_AUTH_ENDPOINTS".to_owned(), proxy.address.to_string())]);
    for (on, name) in [(client.near_cache, "TENANT_AUTH_NEAR_CACHE"), (client.watch, "TENANT_AUTH_WATCH")] {
        if !on {
            variables.insert(name.to_owned(), "off".to_owned());
        }
    }
    variables
}

/// Creates the initial state of a case. Returns its keys, and the revision at which the service has polled
/// all of it, so that it can cache its answers from then on.
async fn create_tenants_and_keys<'a>(
    case: &'a Case,
    operator: &mut AdminClient,
) -> anyhow::Result<(BTreeMap<&'a str, IssuedKey>, Option<i64>)> {
    operator.create_tenant("first").await?;
    let mut invalidations = operator.watch_invalidations().await?;
    // Entries loaded after the first change of a log are revalidated once, so a second change follows.
    operator.create_tenant("second").await?;
    invalidations.until_tenant_seen("second").await?;
    for tenant in &case.tenants {
        operator.create_tenant(tenant).await?;
    }
    let mut keys = BTreeMap::new();
    for (name, key) in &case.keys {
        let ends = key.expires_in_ms.map(Duration::from_millis);
        let issued = operator.issue_key(name, &key.tenant, &key.scopes, ends).await?;
        if !key.allowed_networks.is_empty() {
            operator.set_key_networks(&issued.key_id, &key.allowed_networks).await?;
        }
        keys.insert(name.as_str(), issued);
    }
    operator.create_tenant("last").await?;
    Ok((keys, invalidations.until_tenant_seen("last").await?))
}

/// Repeats a command, up to a timeout, until the answer is as expected.
async fn call_until_expected(
    runner: &Runner,
    command: &Value,
    expected: &Value,
    limit: Duration,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut turns = interval(POLL_INTERVAL);
    loop {
        turns.tick().await;
        let answer = runner.send_command(command.clone()).await?;
        if expect::is_met(expected, &answer) {
            return Ok(());
        }
        ensure!(began.elapsed() < limit, "command {command}\nexpected {expected}\nactual {answer}");
    }
}

impl CaseRun<'_> {
    async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let command = self.fill_in(&call.call)?;
        let expected = self.fill_in(&call.answer)?;
        let limit = if call.until { WAIT_TIMEOUT } else { Duration::ZERO };
        self.proxy.take_calls();
        call_until_expected(&self.runner, &command, &expected, limit).await?;
        match &call.rpcs {
            Some(rpcs) => expect::check_counts(rpcs, self.proxy.take_calls())
                .map_err(|difference| anyhow::anyhow!("command {}\n{difference}", call.call)),
            None => Ok(()),
        }
    }

    async fn perform(&mut self, deed: &Action) -> anyhow::Result<()> {
        match deed {
            Action::Revoke(key) => {
                let key_id = self.key(key)?.key_id.clone();
                self.operator.revoke_key(&key_id).await
            }
            Action::Pause(key) | Action::Unpause(key) => {
                let key_id = self.key(key)?.key_id.clone();
                self.operator.set_key_enabled(&key_id, matches!(deed, Action::Unpause(_))).await
            }
            Action::Scopes(new) => {
                let key_id = self.key(&new.key)?.key_id.clone();
                self.operator.set_key_scopes(&key_id, &new.scopes).await
            }
            Action::Networks(new) => {
                let key_id = self.key(&new.key)?.key_id.clone();
                self.operator.set_key_networks(&key_id, &new.networks).await
            }
            Action::Plan(new) => self.operator.set_plan(&new.tenant, &new.plan).await,
            Action::Unbind(session) => {
                self.operator.unbind_session(&session.session_id, &session.tenant_id).await
            }
            Action::Suspend(tenant) => self.operator.suspend_tenant(tenant).await,
            Action::Resume(tenant) => self.operator.resume_tenant(tenant).await,
            Action::Limit(limit) => {
                let mut limit = limit.clone();
                if let Some(key) = &mut limit.key {
                    *key = self.key(key)?.key_id.clone();
                }
                self.operator.set_limit(&limit).await
            }
            Action::DeleteLimit(limit) => self.operator.delete_limit(limit).await,
            Action::AddCredits(credits) => self.operator.add_credits(credits).await,
            Action::Database(what) => self.change_database(*what).await,
            Action::Service(what) => self.change_service(*what).await,
            Action::Network(disturbance) => {
                self.proxy.disturb(disturbance.clone());
                Ok(())
            }
        }
    }

    async fn change_database(&mut self, what: case::DatabaseAction) -> anyhow::Result<()> {
        match what {
            case::DatabaseAction::Stops => self.database.stop().await,
            case::DatabaseAction::Starts => self.database.start_again()?,
            case::DatabaseAction::Hangs => self.database.faults().set(Fault::Hang),
            case::DatabaseAction::Refuses => self.database.faults().set(Fault::service_unavailable()),
            case::DatabaseAction::Recovers => self.database.faults().clear(),
        }
        Ok(())
    }

    async fn change_service(&mut self, what: case::ServiceAction) -> anyhow::Result<()> {
        match what {
            case::ServiceAction::Stops => {
                self.proxy.stop().await;
                match self.service.take() {
                    Some(mut service) => service.kill().await,
                    None => bail!("the service is already stopped"),
                }
            }
            case::ServiceAction::Starts => {
                let service = start_service(&self.database, self.case).await?;
                self.operator = AdminClient::connect(service.address)?;
                // Creating an existing tenant changes nothing, and succeeds once the service is ready.
                self.operator.create_tenant("first").await?;
                self.proxy.restart(service.address)?;
                self.service = Some(service);
                Ok(())
            }
        }
    }

    fn key(&self, name: &str) -> anyhow::Result<&IssuedKey> {
        self.keys.get(name).with_context(|| format!("the case has no key {name}"))
    }

    /// Replaces the placeholders for keys, times and long texts by their values.
    fn fill_in(&self, value: &Value) -> anyhow::Result<Value> {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                None => Ok(value.clone()),
                Some(name) => match name.strip_suffix(".id") {
                    Some(name) => Ok(json!(self.key(name)?.key_id)),
                    None => Ok(json!(self.key(name)?.plaintext)),
                },
            },
            Value::Array(items) => items.iter().map(|item| self.fill_in(item)).collect(),
            Value::Object(fields) => {
                if let Some(offset) = fields.get("$now").and_then(Value::as_i64) {
                    return Ok(json!(unix_millis_now() + offset));
                }
                if let Some((Some(text), Some(times))) =
                    fields.get("$times").map(|both| (both[0].as_str(), both[1].as_u64()))
                {
                    return Ok(json!(text.repeat(usize::try_from(times)?)));
                }
                let fields = fields.iter().map(|(name, field)| Ok((name.clone(), self.fill_in(field)?)));
                fields.collect::<anyhow::Result<_>>().map(Value::Object)
            }
            _ => Ok(value.clone()),
        }
    }
}

/// Returns the Unix time in milliseconds.
fn unix_millis_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
