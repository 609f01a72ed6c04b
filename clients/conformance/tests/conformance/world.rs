//! A case as it is played: a database, a service, the proxy in front of it, an operator, and a client.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tenant_auth_conformance::{
    PATIENCE,
    administration::{Administration, Issued},
    language::Language,
    port,
    runner::Runner,
    service::Service,
};
use tenant_auth_testkit::{Fault, HranaServer};
use tokio::time::{Instant, interval};

use crate::{
    case::{self, Call, Case, Deed, Step},
    expect,
    proxy::Proxy,
};

/// Between two looks at something that only a program in another process can tell.
const LOOK: Duration = Duration::from_millis(20);

/// What every service here is told, beside what all are.
const SETTINGS: [(&str, &str); 2] = [
    ("TENANT_AUTH_DRAIN_DELAY", "0s"),
    // Changes that are soon known are soon waited for.
    ("TENANT_AUTH_FEED_INTERVAL", "50ms"),
];

struct World<'a> {
    case: &'a Case,
    database: HranaServer,
    /// `None` while it is stopped.
    service: Option<Service>,
    proxy: Proxy,
    operator: Administration,
    keys: BTreeMap<&'a str, Issued>,
    runner: Runner,
}

/// Plays a case with the client of a language. `out` is where runners are built.
pub(crate) async fn play(case: &Case, language: &Language, out: &Path) -> anyhow::Result<()> {
    let database = HranaServer::builder().address(port::take()?).start().await?;
    let service = start(&database, case).await?;
    let proxy = Proxy::start(service.address)?;
    let variables = variables(&case.client, &proxy);
    let mut operator = Administration::of(service.address)?;
    let (runner, keys) = tokio::join!(Runner::start(language, out, &variables), furnish(case, &mut operator));
    let (runner, (keys, revision)) = (runner?, keys?);
    // News that come later would, rightly, cost calls.
    if let (true, true, Some(revision)) = (case.client.near_cache, case.client.watch, revision) {
        let heard = json!({ "live": true, "revision": { "at_least": revision } });
        until(&runner, &json!({ "op": "watch_state" }), &heard, PATIENCE).await?;
    }
    let mut world = World { case, database, service: Some(service), proxy, operator, keys, runner };
    for (number, step) in case.steps.iter().enumerate() {
        let done = match step {
            Step::Call(call) => world.call(call).await,
            Step::Do { deed } => world.act(deed).await,
        };
        done.with_context(|| format!("step {} of {}", number + 1, case.steps.len()))?;
    }
    world.runner.close().await
}

/// A service that is ready.
async fn start(database: &HranaServer, case: &Case) -> anyhow::Result<Service> {
    let mut settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    BTreeMap::extend(&mut settings, case.service.clone());
    let service = Service::start(&database.url(), &settings)?;
    service.until_ready().await?;
    Ok(service)
}

/// What the client's runner is told.
fn variables(client: &case::Client, proxy: &Proxy) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([("TENANT_AUTH_ENDPOINTS".to_owned(), proxy.address.to_string())]);
    for (on, name) in [(client.near_cache, "TENANT_AUTH_NEAR_CACHE"), (client.watch, "TENANT_AUTH_WATCH")] {
        if !on {
            variables.insert(name.to_owned(), "off".to_owned());
        }
    }
    variables
}

/// Makes what a case begins with: its keys, and the revision at which the service has read of all of it, from when on it
/// remembers what it answers.
async fn furnish<'a>(
    case: &'a Case,
    operator: &mut Administration,
) -> anyhow::Result<(BTreeMap<&'a str, Issued>, Option<i64>)> {
    operator.create("first").await?;
    let mut news = operator.news().await?;
    // What follows the beginning of a log is verified once more.
    operator.create("second").await?;
    news.of("second").await?;
    for tenant in &case.tenants {
        operator.create(tenant).await?;
    }
    let mut keys = BTreeMap::new();
    for (name, key) in &case.keys {
        let ends = key.expires_in_ms.map(Duration::from_millis);
        keys.insert(name.as_str(), operator.issue(name, &key.tenant, &key.scopes, ends).await?);
    }
    operator.create("last").await?;
    Ok((keys, news.of("last").await?))
}

/// Asks, again and again for some time, until the answer is as expected.
async fn until(runner: &Runner, command: &Value, expected: &Value, patience: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut turns = interval(LOOK);
    loop {
        turns.tick().await;
        let answer = runner.ask(command.clone()).await?;
        if expect::met(expected, &answer) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < patience,
            "asked {command}\nexpected {expected}\nand was answered {answer}"
        );
    }
}

impl World<'_> {
    async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let command = self.filled_in(&call.call)?;
        let expected = self.filled_in(&call.answer)?;
        let patience = if call.until { PATIENCE } else { Duration::ZERO };
        self.proxy.take_calls();
        until(&self.runner, &command, &expected, patience).await?;
        match &call.rpcs {
            Some(rpcs) => expect::counted(rpcs, self.proxy.take_calls())
                .map_err(|told| anyhow::anyhow!("asked {}\n{told}", call.call)),
            None => Ok(()),
        }
    }

    async fn act(&mut self, deed: &Deed) -> anyhow::Result<()> {
        match deed {
            Deed::Revoke(key) => {
                let key_id = self.key(key)?.key_id.clone();
                self.operator.revoke(&key_id).await
            }
            Deed::Unbind(session) => self.operator.unbind(&session.session_id, &session.tenant_id).await,
            Deed::Suspend(tenant) => self.operator.suspend(tenant).await,
            Deed::Resume(tenant) => self.operator.resume(tenant).await,
            Deed::Database(what) => self.database(*what).await,
            Deed::Service(what) => self.service(*what).await,
            Deed::Network(disturbance) => {
                self.proxy.disturb(disturbance.clone());
                Ok(())
            }
        }
    }

    async fn database(&mut self, what: case::Database) -> anyhow::Result<()> {
        match what {
            case::Database::Stops => self.database.stop().await,
            case::Database::Starts => self.database.start_again()?,
            case::Database::Hangs => self.database.faults().set(Fault::Hang),
            case::Database::Refuses => self.database.faults().set(Fault::service_unavailable()),
            case::Database::Recovers => self.database.faults().clear(),
        }
        Ok(())
    }

    async fn service(&mut self, what: case::Service) -> anyhow::Result<()> {
        match what {
            case::Service::Stops => {
                self.proxy.stop().await;
                match self.service.take() {
                    Some(mut service) => service.kill().await,
                    None => bail!("it has been stopped before"),
                }
            }
            case::Service::Starts => {
                let service = start(&self.database, self.case).await?;
                self.operator = Administration::of(service.address)?;
                // Making what is there already changes nothing; it succeeds once the service is ready.
                self.operator.create("first").await?;
                self.proxy.start_again(service.address)?;
                self.service = Some(service);
                Ok(())
            }
        }
    }

    fn key(&self, name: &str) -> anyhow::Result<&Issued> {
        self.keys.get(name).with_context(|| format!("the case has no key {name}"))
    }

    /// Names of keys, moments and long texts, replaced by what they stand for.
    fn filled_in(&self, value: &Value) -> anyhow::Result<Value> {
        match value {
            Value::String(text) => match text.strip_prefix('$') {
                None => Ok(value.clone()),
                Some(name) => match name.strip_suffix(".id") {
                    Some(name) => Ok(json!(self.key(name)?.key_id)),
                    None => Ok(json!(self.key(name)?.plaintext)),
                },
            },
            Value::Array(items) => items.iter().map(|item| self.filled_in(item)).collect(),
            Value::Object(fields) => {
                if let Some(offset) = fields.get("$now").and_then(Value::as_i64) {
                    return Ok(json!(now() + offset));
                }
                if let Some((Some(text), Some(times))) =
                    fields.get("$times").map(|both| (both[0].as_str(), both[1].as_u64()))
                {
                    return Ok(json!(text.repeat(usize::try_from(times)?)));
                }
                let fields = fields.iter().map(|(name, field)| Ok((name.clone(), self.filled_in(field)?)));
                fields.collect::<anyhow::Result<_>>().map(Value::Object)
            }
            _ => Ok(value.clone()),
        }
    }
}

/// Unix time in milliseconds.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
