//! Operator calls about limits.

use anyhow::Context as _;
use serde::Deserialize;
use tenant_auth_proto::v1::{
    AddCreditsRequest, CalendarWindow, Credits, DeleteLimitRequest, Limit, LimitSubject, OutagePolicy, Quota,
    Rate, SetLimitRequest, WaitForRevisionRequest, limit::Rule, limit_subject::Subject, quota::Window,
};

use super::AdminClient;

/// Maximum time in which the service applies a change of a limit.
const MAX_APPLY_SECONDS: i64 = 10;

/// A limit to set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLimit {
    /// The plan, if it is a limit of one.
    pub plan: Option<String>,
    /// The id of the tenant, if it is a limit of one.
    pub tenant: Option<String>,
    /// The public id of the key, if it is a limit of one.
    pub key: Option<String>,
    /// Its name.
    pub name: String,
    /// The metric that it limits.
    pub metric: String,
    /// An amount per window.
    pub quota: Option<NewQuota>,
    /// A balance without a window.
    pub credits: Option<NewCredits>,
    /// A rate with burst.
    pub rate: Option<NewRate>,
    /// The name of an [`OutagePolicy`] without its prefix.
    pub on_outage: Option<String>,
    /// Whether it denies nothing.
    #[serde(default)]
    pub shadow: bool,
}

/// An amount per window, which is one of the calendar or has a length in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// The amount.
    pub amount: i64,
    /// The name of a [`CalendarWindow`] without its prefix.
    pub calendar: Option<String>,
    /// The length of a rolling window.
    pub rolling_ms: Option<i64>,
}

/// A balance without a window.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCredits {
    /// The balance at the start.
    pub initial: i64,
}

/// A rate with burst.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRate {
    /// The amount that flows in per period.
    pub amount: i64,
    /// The period in milliseconds.
    pub per_ms: i64,
    /// The capacity of the bucket.
    pub burst: i64,
}

/// A limit of a tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitOfTenant {
    /// The id of the tenant.
    pub tenant: String,
    /// The name of the limit.
    pub name: String,
}

/// Credits to add to a limit of a tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditsToAdd {
    /// The id of the tenant.
    pub tenant: String,
    /// The name of the limit.
    pub name: String,
    /// The amount.
    pub amount: i64,
}

impl AdminClient {
    /// Sets a limit, and waits until the service has applied it.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn set_limit(&mut self, limit: &NewLimit) -> anyhow::Result<()> {
        let request = SetLimitRequest { limit: Some(limit.to_message()?), expected_version: None };
        let revision = self.admin.set_limit(request).await?.into_inner().revision;
        self.wait_for_revision(revision).await
    }

    /// Deletes a limit of a tenant, and waits until the service has applied it.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn delete_limit(&mut self, limit: &LimitOfTenant) -> anyhow::Result<()> {
        let request =
            DeleteLimitRequest { subject: Some(subject_of(&limit.tenant)), name: limit.name.clone() };
        let revision = self.admin.delete_limit(request).await?.into_inner().revision;
        self.wait_for_revision(revision).await
    }

    /// Adds credits to a limit of a tenant, and waits until the service has applied it.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn add_credits(&mut self, credits: &CreditsToAdd) -> anyhow::Result<()> {
        let request = AddCreditsRequest {
            subject: Some(subject_of(&credits.tenant)),
            name: credits.name.clone(),
            amount: credits.amount,
            adjustment_id: format!("{}-{}-{}", credits.tenant, credits.name, credits.amount),
            reason: "a case".to_owned(),
        };
        let revision = self.admin.add_credits(request).await?.into_inner().revision;
        self.wait_for_revision(revision).await
    }

    async fn wait_for_revision(&mut self, revision: i64) -> anyhow::Result<()> {
        let timeout = Some(prost_types::Duration { seconds: MAX_APPLY_SECONDS, nanos: 0 });
        let request = WaitForRevisionRequest { revision, timeout };
        let state = self.info.wait_for_revision(request).await?.into_inner();
        anyhow::ensure!(state.applied, "revision {revision} of a limit is not applied: {state:?}");
        Ok(())
    }
}

fn subject_of(tenant: &str) -> LimitSubject {
    LimitSubject { subject: Some(Subject::TenantId(tenant.to_owned())) }
}

impl NewLimit {
    fn to_message(&self) -> anyhow::Result<Limit> {
        let subject = match (&self.plan, &self.tenant, &self.key) {
            (Some(plan), None, None) => Subject::Plan(plan.clone()),
            (None, Some(tenant), None) => Subject::TenantId(tenant.clone()),
            (None, None, Some(key)) => Subject::KeyId(key.clone()),
            _ => anyhow::bail!("limit {}: name one of plan, tenant and key", self.name),
        };
        let rule = match (&self.quota, &self.credits, &self.rate) {
            (Some(quota), None, None) => Rule::Quota(quota.to_message()?),
            (None, Some(credits), None) => Rule::Credits(Credits { initial: credits.initial, refill: None }),
            (None, None, Some(rate)) => {
                Rule::Rate(Rate { amount: rate.amount, per: Some(duration(rate.per_ms)), burst: rate.burst })
            }
            _ => anyhow::bail!("limit {}: name one of quota, credits and rate", self.name),
        };
        let on_outage = self.on_outage.as_deref().unwrap_or("UNSPECIFIED");
        let on_outage = OutagePolicy::from_str_name(&format!("OUTAGE_POLICY_{on_outage}"))
            .with_context(|| format!("limit {}: no outage policy {on_outage}", self.name))?;
        Ok(Limit {
            subject: Some(LimitSubject { subject: Some(subject) }),
            name: self.name.clone(),
            metric: self.metric.clone(),
            rule: Some(rule),
            on_outage: on_outage.into(),
            shadow: self.shadow,
            version: 0,
            updated_at: None,
        })
    }
}

impl NewQuota {
    fn to_message(&self) -> anyhow::Result<Quota> {
        let window = match (&self.calendar, self.rolling_ms) {
            (Some(name), None) => {
                let window = CalendarWindow::from_str_name(&format!("CALENDAR_WINDOW_{name}"));
                Window::Calendar(window.with_context(|| format!("no calendar window {name}"))?.into())
            }
            (None, Some(millis)) => Window::Rolling(duration(millis)),
            _ => anyhow::bail!("a quota has either calendar or rolling_ms"),
        };
        Ok(Quota { amount: self.amount, window: Some(window) })
    }
}

fn duration(millis: i64) -> prost_types::Duration {
    let nanos = i32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
    prost_types::Duration { seconds: millis / 1_000, nanos }
}
