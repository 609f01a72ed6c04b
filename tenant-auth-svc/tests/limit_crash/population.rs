//! The tenants, and the limits of their plans and keys.

use tenant_auth_proto::v1::{self, OutagePolicy, limit::Rule, limit_subject::Subject};

pub(crate) const TENANTS: usize = 200;
/// The first tenants are busy, so that leases follow a rate of use. The limits of the others are reached soon.
pub(crate) const BUSY_TENANTS: usize = 2 * PROFILES;
/// The length of a rolling window.
pub(crate) const ROLLING_SECONDS: i64 = 60;
/// The metrics that requests cost.
pub(crate) const REQUESTS: &str = "requests";
pub(crate) const TOKENS: &str = "tokens";

/// The kinds of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Hour,
    Day,
    Rolling,
    Credits,
    /// Credits to which the amount is added every hour.
    RefilledCredits,
    /// The amount flows in per second; the burst is twice as much.
    Rate,
}

/// A limit that applies to a tenant or to one of its keys.
#[derive(Clone, Debug)]
pub(crate) struct LimitSpec {
    pub(crate) name: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) kind: Kind,
    pub(crate) amount: i64,
    pub(crate) policy: OutagePolicy,
    /// The number of the key whose limit it is; `None` for a limit of the plan.
    pub(crate) of_key: Option<usize>,
}

/// A tenant, as the test sets it up.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) plan: String,
    pub(crate) limits: Vec<LimitSpec>,
    /// Set once they are issued.
    pub(crate) keys: Vec<Key>,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) plaintext: String,
}

/// What is counted together: tenant, key or nothing, name of the limit.
pub(crate) type CounterId = (String, String, String);

const PROFILES: usize = 12;
const CLOSED: OutagePolicy = OutagePolicy::Closed;
const LOCAL_SHARE: OutagePolicy = OutagePolicy::LocalShare;

impl LimitSpec {
    fn of_plan(name: &'static str, kind: Kind, amount: i64, policy: OutagePolicy) -> Self {
        Self { name, metric: REQUESTS, kind, amount, policy, of_key: None }
    }

    fn of_key(self, number: usize) -> Self {
        Self { of_key: Some(number), ..self }
    }

    /// The capacity of a rate's bucket.
    pub(crate) fn burst(&self) -> i64 {
        2 * self.amount
    }

    /// The length of a rolling window or of a window of the calendar, in milliseconds; `None` without windows.
    pub(crate) fn window_millis(&self) -> Option<i64> {
        match self.kind {
            Kind::Hour => Some(3_600_000),
            Kind::Day => Some(86_400_000),
            Kind::Rolling => Some(ROLLING_SECONDS * 1_000),
            Kind::Credits | Kind::RefilledCredits | Kind::Rate => None,
        }
    }

    fn rule(&self) -> Rule {
        let amount = self.amount;
        let calendar = |window: v1::CalendarWindow| {
            Rule::Quota(v1::Quota { amount, window: Some(v1::quota::Window::Calendar(window.into())) })
        };
        match self.kind {
            Kind::Hour => calendar(v1::CalendarWindow::Hour),
            Kind::Day => calendar(v1::CalendarWindow::Day),
            Kind::Rolling => {
                let length = prost_types::Duration { seconds: ROLLING_SECONDS, nanos: 0 };
                Rule::Quota(v1::Quota { amount, window: Some(v1::quota::Window::Rolling(length)) })
            }
            Kind::Credits => Rule::Credits(v1::Credits { initial: amount, refill: None }),
            Kind::RefilledCredits => {
                let every = v1::CalendarWindow::Hour.into();
                let refill = Some(v1::CreditRefill { amount, every, max_balance: 0 });
                Rule::Credits(v1::Credits { initial: amount, refill })
            }
            Kind::Rate => Rule::Rate(v1::Rate { amount, per: None, burst: self.burst() }),
        }
    }

    /// The limit as the service stores it.
    pub(crate) fn to_limit(&self, tenant: &Tenant) -> v1::Limit {
        let subject = match self.of_key {
            Some(number) => Subject::KeyId(tenant.keys[number].id.clone()),
            None => Subject::Plan(tenant.plan.clone()),
        };
        v1::Limit {
            subject: Some(v1::LimitSubject { subject: Some(subject) }),
            name: self.name.to_owned(),
            metric: self.metric.to_owned(),
            rule: Some(self.rule()),
            on_outage: self.policy.into(),
            ..Default::default()
        }
    }

    /// What the limit counts what a key of the tenant takes as.
    pub(crate) fn counter(&self, tenant: &Tenant) -> CounterId {
        let key = self.of_key.map(|number| tenant.keys[number].id.clone());
        (tenant.id.clone(), key.unwrap_or_default(), self.name.to_owned())
    }
}

impl Tenant {
    pub(crate) fn is_closed_in_outages(&self) -> bool {
        self.limits.iter().all(|limit| limit.policy == CLOSED)
    }

    /// How many keys it needs: one, or one for each that has a limit.
    pub(crate) fn wanted_keys(&self) -> usize {
        self.limits.iter().filter_map(|limit| limit.of_key).max().map_or(1, |last| last + 1)
    }

    /// Returns the limits that apply to a request with one of the keys: a limit of the key replaces that of the plan with the
    /// same name.
    pub(crate) fn limits_of(&self, key: usize, metric: &str) -> impl Iterator<Item = &LimitSpec> {
        let is_replaced = move |limit: &LimitSpec| {
            self.limits.iter().any(|own| own.of_key == Some(key) && own.name == limit.name)
        };
        self.limits.iter().filter(move |limit| {
            let applies = limit.of_key == Some(key) || (limit.of_key.is_none() && !is_replaced(limit));
            applies && limit.metric == metric
        })
    }
}

/// Returns the tenants. `scale` multiplies the limits that are not given back while the test runs.
pub(crate) fn tenants(scale: i64) -> Vec<Tenant> {
    (0..TENANTS)
        .map(|number| {
            let size =
                if number < BUSY_TENANTS { 8 } else { 1 + i64::try_from(number / PROFILES % 3).unwrap() };
            let profile = number % PROFILES;
            Tenant {
                id: format!("tenant-{number}"),
                plan: format!("plan-{profile}-{size}"),
                limits: limits_of_profile(profile, size, scale),
                keys: Vec::new(),
            }
        })
        .collect()
}

fn limits_of_profile(profile: usize, size: i64, scale: i64) -> Vec<LimitSpec> {
    let total = 16 * size * scale;
    let of_plan = LimitSpec::of_plan;
    match profile {
        0 => vec![of_plan("hourly", Kind::Hour, total, CLOSED)],
        1 => vec![of_plan("hourly", Kind::Hour, total, LOCAL_SHARE)],
        2 => vec![of_plan("daily", Kind::Day, 2 * total, CLOSED)],
        3 => vec![of_plan("daily", Kind::Day, 2 * total, LOCAL_SHARE)],
        4 => vec![of_plan("rolling", Kind::Rolling, 12 * size, CLOSED)],
        5 => vec![of_plan("rolling", Kind::Rolling, 12 * size, LOCAL_SHARE)],
        6 => vec![of_plan("credits", Kind::Credits, 2 * total, CLOSED)],
        7 => vec![of_plan("credits", Kind::RefilledCredits, total, LOCAL_SHARE)],
        8 => vec![of_plan("rate", Kind::Rate, size, CLOSED)],
        9 => vec![of_plan("rate", Kind::Rate, size, LOCAL_SHARE)],
        // Several limits on one request.
        10 => vec![
            of_plan("credits", Kind::Credits, 8 * total, LOCAL_SHARE).metric(TOKENS),
            of_plan("daily", Kind::Day, 2 * total, LOCAL_SHARE),
            of_plan("hourly", Kind::Hour, total, CLOSED),
            of_plan("rate", Kind::Rate, 4 * size, CLOSED),
            of_plan("rolling", Kind::Rolling, 24 * size, CLOSED),
        ],
        // The first key has less of its own, and the second one another limit in place of the plan's.
        _ => vec![
            of_plan("daily", Kind::Day, 2 * total, CLOSED),
            of_plan("own", Kind::Hour, total / 2, LOCAL_SHARE).of_key(0),
            of_plan("daily", Kind::Credits, total, CLOSED).of_key(1),
        ],
    }
}

impl LimitSpec {
    fn metric(self, metric: &'static str) -> Self {
        Self { metric, ..self }
    }
}
