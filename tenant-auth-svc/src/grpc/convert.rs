//! From the contract's messages to the domain's types, and back: each request is parsed once, here.

mod admin;
mod audit;
mod database;
mod encoded;
mod entries;
mod fields;
mod grace;
mod inspect;
mod session;
mod time;
mod usage;
mod validation;
mod watch;

pub(super) use self::{
    admin::{
        KeyListing, api_key_message, create_tenant_request, get_key_response, import_request,
        import_response, issue_request, key_id_request, list_keys_request, list_keys_response,
        list_tenants_request, list_tenants_response, reason_request, rotate_request, tenant_id_request,
        tenant_message,
    },
    audit::{audit_request, audit_response},
    database::{database_identity_message, database_state_message, held_end_message, reason},
    grace::{grace_message, reset_grace_request, set_grace_request},
    inspect::inspection_message,
    session::{
        bind_request, bind_response, list_sessions_request, list_sessions_response, session_decision_message,
        session_question, unbind_request,
    },
    time::timestamp,
    usage::{query_usage_request, query_usage_response, record_usage_request, record_usage_response},
    validation::decision_message,
    watch::{told_messages, watch_request},
};
pub(crate) use self::{
    encoded::{FRAME_HEAD, framed_decision, framed_decisions},
    validation::{MAX_BATCH, batch_questions, question},
};
