//! `tenantctl session …`

use std::time::Duration;

use clap::{Args, Subcommand};
use tenant_auth_client::{BindSession, Verdict};

use super::{
    Context,
    wait::{self, Wait},
};
use crate::{
    args::{CustomerAddress, Limit},
    exit::Exit,
    failure::{Failure, FieldNames},
    listing,
    secret::KeySource,
    time,
    view::{BindingView, SessionValidationView, SessionView, UnboundView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Bind a session to the tenant of a key
    ///
    /// The key is read from standard input, or from a prompt without echo on a terminal.
    Bind(Bind),

    /// Validate a session
    Validate(Validate),

    /// Unbind a session
    Unbind {
        /// Id of the session
        session_id: String,

        /// Tenant that owns the session
        #[arg(long, value_name = "ID")]
        tenant: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// List the sessions of a tenant, newest first
    List {
        /// Tenant of the sessions
        #[arg(long, value_name = "ID")]
        tenant: String,

        #[command(flatten)]
        limit: Limit,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// Id of the session: 1 to 1,024 visible ASCII characters
    session_id: String,

    /// Lifetime of the session, 1s to 30d
    #[arg(long, value_parser = time::parse_nonzero_span, value_name = "TIME")]
    ttl: Duration,

    /// Count the lifetime from the last validation; it must be at least 60s
    #[arg(long)]
    sliding: bool,

    /// Attribute that is returned with each validation; may be repeated
    #[arg(long = "attribute", value_parser = parse_attribute, value_name = "NAME=VALUE")]
    attributes: Vec<(String, String)>,

    #[command(flatten)]
    address: CustomerAddress,

    #[command(flatten)]
    source: KeySource,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Id of the session
    session_id: String,

    /// Scope that the key of the session must hold; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    /// Also present a key, read from standard input or from a prompt without echo
    #[arg(long)]
    with_key: bool,

    #[command(flatten)]
    address: CustomerAddress,

    #[command(flatten)]
    source: KeySource,
}

const FIELD_NAMES: FieldNames = &[
    ("session_id", "SESSION_ID"),
    ("key", "the key"),
    ("ttl", "--ttl"),
    ("attributes", "--attribute"),
    ("required_scopes", "--scope"),
    ("tenant_id", "--tenant"),
];

pub(super) async fn run(context: &Context, command: SessionCommand) -> Result<Exit, Failure> {
    match command {
        SessionCommand::Bind(command) => bind(context, command).await,
        SessionCommand::Validate(command) => validate(context, command).await,
        SessionCommand::Unbind { session_id, tenant, wait } => {
            let unbinding = context.client()?.unbind_session(&session_id, &tenant).await;
            let unbinding = unbinding.map_err(Failure::from_service(FIELD_NAMES))?;
            let view = UnboundView::new(session_id, unbinding.was_bound);
            wait::show(context, &wait, view, unbinding.revision).await
        }
        SessionCommand::List { tenant, limit } => {
            let client = context.client()?;
            let page = async |size, token| {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let page = client.list_sessions_page(&tenant, size, token).await?;
                let sessions = page.sessions.into_iter().map(SessionView::new);
                Ok((sessions.collect(), page.next_page_token))
            };
            listing::print_list(context.output, limit, FIELD_NAMES, page).await
        }
    }
}

async fn bind(context: &Context, command: Bind) -> Result<Exit, Failure> {
    let client = context.client()?.with_client_address(command.address.get());
    let key = command.source.read()?;
    let mut session = BindSession::new(&command.session_id, command.ttl);
    if command.sliding {
        session = session.sliding();
    }
    for (name, value) in command.attributes {
        session = session.attribute(name, value);
    }
    let binding = client.bind_session(session, &key).await.map_err(Failure::from_service(FIELD_NAMES))?;
    let exit = exit_for(binding.verdict);
    context.output.show(&BindingView::new(binding))?;
    Ok(exit)
}

async fn validate(context: &Context, command: Validate) -> Result<Exit, Failure> {
    let client = context.client()?.with_client_address(command.address.get());
    let presents_key = command.with_key || command.source.has_key_file();
    let key = presents_key.then(|| command.source.read()).transpose()?;
    let scopes: Vec<_> = command.scopes.iter().map(String::as_str).collect();
    let validation = client.validate_session(&command.session_id, key.as_ref(), &scopes).await;
    let validation = validation.map_err(Failure::from_service(FIELD_NAMES))?;
    let exit = exit_for(validation.verdict);
    context.output.show(&SessionValidationView::new(command.session_id, validation))?;
    Ok(exit)
}

fn exit_for(verdict: Verdict) -> Exit {
    if verdict.is_valid() { Exit::Done } else { Exit::Denied }
}

fn parse_attribute(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE, such as client=desktop"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_is_split_at_first_equals_sign() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_attribute("a=b=c"), pair("a", "b=c"));
        assert_eq!(parse_attribute("a="), pair("a", ""));
        assert!(parse_attribute("a").is_err() && parse_attribute("=b").is_err());
    }
}
