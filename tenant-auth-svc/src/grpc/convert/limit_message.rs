//! Limits and their state as messages.

use tenant_auth_proto::v1;

use super::{
    fields::{FieldValidator, ParseResult, page_token},
    time::{duration, timestamp},
};
use crate::domain::{
    id::{KeyId, TenantId},
    limit::{
        CalendarWindow, Credits, Limit, LimitAmount, LimitRule, LimitState, LimitSubject, OutagePolicy,
        Quota, QuotaWindow, Rate,
        admin::Adjusted,
        store::{LimitCursor, LimitHolder},
    },
    page::Page,
    store::Committed,
};

pub(in crate::grpc) fn limit_message(limit: Limit) -> v1::Limit {
    use v1::limit_subject::Subject;

    let subject = match limit.subject {
        LimitSubject::Plan(plan) => Subject::Plan(plan.into_string()),
        LimitSubject::Tenant(id) => Subject::TenantId(id.to_string()),
        LimitSubject::Key(id) => Subject::KeyId(id.to_string()),
    };
    let on_outage = match limit.on_outage {
        OutagePolicy::Open => v1::OutagePolicy::Open,
        OutagePolicy::LocalShare => v1::OutagePolicy::LocalShare,
        OutagePolicy::Closed => v1::OutagePolicy::Closed,
    };
    v1::Limit {
        subject: Some(v1::LimitSubject { subject: Some(subject) }),
        name: limit.name.as_str().to_owned(),
        metric: limit.metric.as_str().to_owned(),
        rule: Some(rule_message(limit.rule)),
        on_outage: on_outage.into(),
        shadow: limit.shadow,
        version: limit.version,
        updated_at: Some(timestamp(limit.updated_at)),
    }
}

fn rule_message(rule: LimitRule) -> v1::limit::Rule {
    match rule {
        LimitRule::Quota(Quota { amount, window }) => v1::limit::Rule::Quota(v1::Quota {
            amount: amount.as_i64(),
            window: Some(match window {
                QuotaWindow::Calendar(window) => v1::quota::Window::Calendar(calendar_message(window)),
                QuotaWindow::Rolling(length) => v1::quota::Window::Rolling(duration(length)),
            }),
        }),
        LimitRule::Credits(Credits { initial, refill }) => v1::limit::Rule::Credits(v1::Credits {
            initial: initial.as_i64(),
            refill: refill.map(|refill| v1::CreditRefill {
                amount: refill.amount.as_i64(),
                every: calendar_message(refill.every),
                max_balance: refill.max_balance.map_or(0, LimitAmount::as_i64),
            }),
        }),
        LimitRule::Rate(Rate { amount, per, burst }) => v1::limit::Rule::Rate(v1::Rate {
            amount: amount.as_i64(),
            per: Some(duration(per)),
            burst: burst.as_i64(),
        }),
    }
}

fn calendar_message(window: CalendarWindow) -> i32 {
    let window = match window {
        CalendarWindow::Hour => v1::CalendarWindow::Hour,
        CalendarWindow::Day => v1::CalendarWindow::Day,
        CalendarWindow::Month => v1::CalendarWindow::Month,
    };
    window.into()
}

pub(in crate::grpc) fn list_limits_response(page: Page<Limit, LimitCursor>) -> v1::ListLimitsResponse {
    v1::ListLimitsResponse {
        next_page_token: page_token(page.next),
        limits: page.items.into_iter().map(limit_message).collect(),
    }
}

pub(in crate::grpc) fn add_credits_response(
    Committed { outcome, revision }: Committed<Adjusted>,
) -> v1::AddCreditsResponse {
    let Adjusted { credited, remaining, already_added } = outcome;
    v1::AddCreditsResponse { credited, remaining, already_added, revision: revision.0 }
}

/// Parses the request for the state of limits.
pub(crate) fn parse_limit_state(request: &v1::GetLimitStateRequest) -> ParseResult<LimitHolder> {
    use v1::get_limit_state_request::Subject;

    let mut fields = FieldValidator::new();
    let holder = match &request.subject {
        Some(Subject::TenantId(id)) => {
            fields.check("tenant_id", TenantId::parse(id)).map(LimitHolder::Tenant)
        }
        Some(Subject::KeyId(id)) => fields.check("key_id", KeyId::parse(id)).map(LimitHolder::Key),
        None => {
            fields.add_violation("subject", "must be set: tenant_id or key_id");
            None
        }
    };
    holder.ok_or_else(|| fields.into_error())
}

/// Returns the state of limits.
pub(crate) fn limit_state_response(states: Vec<LimitState>) -> v1::GetLimitStateResponse {
    v1::GetLimitStateResponse { limits: states.into_iter().map(state_message).collect() }
}

fn state_message(state: LimitState) -> v1::LimitState {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    v1::LimitState {
        used: number(state.used),
        leased: number(state.leased),
        reserved: number(state.reserved),
        unaccounted: number(state.unaccounted),
        remaining: number(state.remaining),
        window_start: state.window_start.map(timestamp),
        reset_after: state.reset_after.map(duration),
        limit: Some(limit_message(state.limit)),
    }
}
