//! Requests of operators about limits.

use std::time::Duration;

use tenant_auth_proto::v1;

use super::{
    fields::{FieldValidator, ParseResult},
    time::parse_duration,
};
use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    limit::{
        CalendarWindow, Credits, Limit, LimitAmount, LimitName, LimitRule, LimitSubject, OutagePolicy, Quota,
        QuotaWindow, Rate, Refill,
        store::{AdjustmentId, CreditAdjustment, LimitCursor, LimitHolder},
    },
    page::{PageRequest, PageSize},
    text::{Plan, Reason},
    usage::UsageMetric,
};

/// The default and the maximum number of limits in a page.
const PAGE_SIZES: (PageSize, PageSize) = (PageSize::new(100), PageSize::new(1_000));
/// The maximum length of the reason for an adjustment, in characters.
const MAX_REASON_CHARS: usize = 200;

pub(in crate::grpc) fn parse_set_limit(request: &v1::SetLimitRequest) -> ParseResult<(Limit, Option<i64>)> {
    let mut fields = FieldValidator::new();
    let Some(limit) = &request.limit else {
        fields.add_violation("limit", "must be set");
        return Err(fields.into_error());
    };
    let parsed = parse_limit(&mut fields, limit);
    if request.expected_version.is_some_and(|version| version < 0) {
        fields.add_violation("expected_version", "must not be negative");
    }
    match parsed {
        Some(limit) if fields.is_valid() => Ok((limit, request.expected_version)),
        _ => Err(fields.into_error()),
    }
}

fn parse_limit(fields: &mut FieldValidator, limit: &v1::Limit) -> Option<Limit> {
    let subject = parse_subject(fields, "limit.subject", limit.subject.as_ref());
    let name = fields.check("limit.name", LimitName::parse(&limit.name));
    let metric = fields.check("limit.metric", UsageMetric::parse(&limit.metric));
    let rule = match &limit.rule {
        Some(v1::limit::Rule::Quota(quota)) => parse_quota(fields, quota).map(LimitRule::Quota),
        Some(v1::limit::Rule::Credits(credits)) => parse_credits(fields, credits).map(LimitRule::Credits),
        Some(v1::limit::Rule::Rate(rate)) => parse_rate(fields, rate).map(LimitRule::Rate),
        None => {
            fields.add_violation("limit.rule", "must be set: one of quota, credits and rate");
            None
        }
    };
    let on_outage = match v1::OutagePolicy::try_from(limit.on_outage) {
        Ok(v1::OutagePolicy::Open) => Some(OutagePolicy::Open),
        Ok(v1::OutagePolicy::LocalShare) => Some(OutagePolicy::LocalShare),
        Ok(v1::OutagePolicy::Closed | v1::OutagePolicy::Unspecified) => Some(OutagePolicy::Closed),
        Err(_) => {
            fields.add_violation("limit.on_outage", format!("unknown value {}", limit.on_outage));
            None
        }
    };
    Some(Limit {
        subject: subject?,
        name: name?,
        metric: metric?,
        rule: rule?,
        on_outage: on_outage?,
        shadow: limit.shadow,
        version: 0,
        updated_at: UnixMillis(0),
    })
}

fn parse_quota(fields: &mut FieldValidator, quota: &v1::Quota) -> Option<Quota> {
    let amount = fields.check("limit.quota.amount", LimitAmount::new(quota.amount));
    let window = match quota.window {
        Some(v1::quota::Window::Calendar(window)) => {
            parse_calendar(fields, "limit.quota.calendar", window).map(QuotaWindow::Calendar)
        }
        Some(v1::quota::Window::Rolling(length)) => {
            let length = fields.check("limit.quota.rolling", parse_duration(length));
            length.and_then(|length| fields.check("limit.quota.rolling", QuotaWindow::rolling(length)))
        }
        None => {
            fields.add_violation("limit.quota.window", "must be set: calendar or rolling");
            None
        }
    };
    Some(Quota { amount: amount?, window: window? })
}

fn parse_credits(fields: &mut FieldValidator, credits: &v1::Credits) -> Option<Credits> {
    let initial = fields.check("limit.credits.initial", LimitAmount::new(credits.initial));
    let refill = match &credits.refill {
        None => Some(None),
        Some(refill) => parse_refill(fields, refill).map(Some),
    };
    Some(Credits { initial: initial?, refill: refill? })
}

fn parse_refill(fields: &mut FieldValidator, refill: &v1::CreditRefill) -> Option<Refill> {
    let amount = fields.check("limit.credits.refill.amount", LimitAmount::of_refill(refill.amount));
    let every = parse_calendar(fields, "limit.credits.refill.every", refill.every);
    let max_balance = fields.check("limit.credits.refill.max_balance", LimitAmount::new(refill.max_balance));
    let max_balance = max_balance.map(|max| (max.get() > 0).then_some(max));
    Some(Refill { amount: amount?, every: every?, max_balance: max_balance? })
}

fn parse_rate(fields: &mut FieldValidator, rate: &v1::Rate) -> Option<Rate> {
    let amount = fields.check("limit.rate.amount", LimitAmount::of_rate(rate.amount));
    let per = match rate.per {
        None => Some(Duration::from_secs(1)),
        Some(per) => {
            let per = fields.check("limit.rate.per", parse_duration(per));
            per.and_then(|per| fields.check("limit.rate.per", Rate::period(per)))
        }
    };
    let burst = match rate.burst {
        0 => amount,
        burst => fields.check("limit.rate.burst", LimitAmount::of_rate(burst)),
    };
    Some(Rate { amount: amount?, per: per?, burst: burst? })
}

fn parse_calendar(fields: &mut FieldValidator, field: &str, window: i32) -> Option<CalendarWindow> {
    match v1::CalendarWindow::try_from(window) {
        Ok(v1::CalendarWindow::Hour) => Some(CalendarWindow::Hour),
        Ok(v1::CalendarWindow::Day) => Some(CalendarWindow::Day),
        Ok(v1::CalendarWindow::Month) => Some(CalendarWindow::Month),
        Ok(v1::CalendarWindow::Unspecified) => {
            fields.add_violation(field, "must be set: an hour, a day or a month");
            None
        }
        Err(_) => {
            fields.add_violation(field, format!("unknown value {window}"));
            None
        }
    }
}

fn parse_subject(
    fields: &mut FieldValidator,
    field: &str,
    subject: Option<&v1::LimitSubject>,
) -> Option<LimitSubject> {
    use v1::limit_subject::Subject;

    match subject.and_then(|subject| subject.subject.as_ref()) {
        Some(Subject::Plan(plan)) => {
            let parsed = match plan.as_str() {
                "" => Err("must not be empty: tenants without a plan have no limits of one".to_owned()),
                plan => Plan::parse(plan).map_err(|error| error.to_string()),
            };
            let plan = fields.check(&format!("{field}.plan"), parsed)?;
            Some(LimitSubject::Plan(plan.as_str().into()))
        }
        Some(Subject::TenantId(id)) => {
            fields.check(&format!("{field}.tenant_id"), TenantId::parse(id)).map(LimitSubject::Tenant)
        }
        Some(Subject::KeyId(id)) => {
            fields.check(&format!("{field}.key_id"), KeyId::parse(id)).map(LimitSubject::Key)
        }
        None => {
            fields.add_violation(field, "must be set: one of plan, tenant_id and key_id");
            None
        }
    }
}

/// Parses the subject and the name of a limit.
pub(in crate::grpc) fn parse_limit_reference(
    subject: Option<&v1::LimitSubject>,
    name: &str,
) -> ParseResult<(LimitSubject, LimitName)> {
    let mut fields = FieldValidator::new();
    let subject = parse_subject(&mut fields, "subject", subject);
    let name = fields.check("name", LimitName::parse(name));
    subject.zip(name).ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn parse_list_limits(
    request: &v1::ListLimitsRequest,
) -> ParseResult<(Option<LimitSubject>, PageRequest<LimitCursor>)> {
    let mut fields = FieldValidator::new();
    let subject = match &request.subject {
        None => Some(None),
        subject => parse_subject(&mut fields, "subject", subject.as_ref()).map(Some),
    };
    let of_list = |cursor: &LimitCursor| {
        subject
            .as_ref()
            .is_some_and(|subject| subject.as_ref().is_none_or(|subject| cursor.subject == *subject))
    };
    let page = fields.parse_page_with_sizes(PAGE_SIZES, request.page_size, &request.page_token, |text| {
        LimitCursor::parse(text).filter(of_list)
    });
    subject.zip(page).ok_or_else(|| fields.into_error())
}

pub(in crate::grpc) fn parse_add_credits(
    request: &v1::AddCreditsRequest,
    caller: Option<&str>,
) -> ParseResult<CreditAdjustment> {
    let mut fields = FieldValidator::new();
    let holder = match parse_subject(&mut fields, "subject", request.subject.as_ref()) {
        Some(LimitSubject::Tenant(id)) => Some(LimitHolder::Tenant(id)),
        Some(LimitSubject::Key(id)) => Some(LimitHolder::Key(id)),
        Some(LimitSubject::Plan(_)) => {
            fields.add_violation("subject.plan", "must not be set: credits are those of a tenant or a key");
            None
        }
        None => None,
    };
    let name = fields.check("name", LimitName::parse(&request.name));
    let max = CreditAdjustment::MAX_AMOUNT;
    if request.amount == 0 || !(-max..=max).contains(&request.amount) {
        fields.add_violation(
            "amount",
            "must be 1 to 1,000,000,000,000, or -1 to -1,000,000,000,000 to take credits away",
        );
    }
    let id = fields.check("adjustment_id", AdjustmentId::parse(&request.adjustment_id));
    let reason = match request.reason.as_str() {
        "" => Some(None),
        reason if reason.chars().count() > MAX_REASON_CHARS => {
            fields.add_violation("reason", format!("must have at most {MAX_REASON_CHARS} characters"));
            None
        }
        reason => fields.check("reason", Reason::parse(reason)).map(Some),
    };
    match (holder, name, id, reason) {
        (Some(holder), Some(name), Some(id), Some(reason)) if fields.is_valid() => Ok(CreditAdjustment {
            holder,
            name,
            amount: request.amount,
            caller: caller.map(str::to_owned),
            id,
            reason,
        }),
        _ => Err(fields.into_error()),
    }
}
