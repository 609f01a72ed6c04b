//! Converts the messages of the contract to domain types and back. Each request is parsed once, here.

mod admin;
mod audit;
mod consume;
mod consume_encoded;
mod database;
mod encoded;
mod entries;
mod explain;
mod fields;
mod grace;
mod inspect;
mod leak;
mod limit_definition;
mod limit_message;
mod listing;
mod replica;
mod session;
mod time;
mod update;
mod usage;
mod validation;
mod watch;
pub(crate) mod wire;

#[cfg(test)]
pub(crate) use self::consume::parse_consume_for_tests;
pub(super) use self::{
    admin::{
        api_key_message, get_key_response, import_response, parse_create_tenant, parse_import_keys,
        parse_issue_key, parse_key_id, parse_resume_tenant, parse_rotate_key, parse_tenant_id,
        parse_with_reason, tenant_message,
    },
    audit::{audit_response, parse_list_audit_events},
    consume::{
        consume_response, parse_cancel, parse_consume, parse_consume_batch, parse_reserve, parse_settle,
        proto_state, reserve_response, settle_response,
    },
    database::{
        database_identity_message, database_state_message, parse_reason, retained_revocation_message,
    },
    explain::{explanation_message, explanation_without_key, parse_explain_key},
    grace::{grace_message, parse_reset_grace, parse_set_grace},
    inspect::inspection_message,
    leak::{leak_response, parse_report_leak},
    limit_definition::{parse_add_credits, parse_limit_reference, parse_list_limits, parse_set_limit},
    limit_message::{
        add_credits_response, limit_message, limit_state_response, list_limits_response, parse_limit_state,
    },
    listing::{
        KeyListing, TenantListing, list_keys_response, list_tenants_response, parse_list_keys,
        parse_list_tenants,
    },
    replica::{parse_wait_for_revision, replica_state_message},
    session::{
        bind_response, list_sessions_response, parse_bind_session, parse_list_sessions, parse_session_query,
        parse_unbind_session, session_decision_message,
    },
    time::timestamp,
    update::{delete_tenant_response, parse_delete_tenant, parse_update_key, parse_update_tenant},
    usage::{parse_query_usage, parse_record_usage, query_usage_response, record_usage_response},
    validation::decision_message,
    watch::{parse_watch, watch_messages},
};
pub(crate) use self::{
    consume_encoded::encode_consume_frame,
    encoded::{encode_batch_frame, encode_decision_frame},
    validation::{MAX_BATCH_KEYS, parse_key_query, parse_key_query_batch},
    wire::FRAME_HEADER_LEN,
};
