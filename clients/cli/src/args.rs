//! The options of every command, and those shared by several commands.

mod credentials;
mod customer_address;
mod expiry;
pub(crate) mod leak_policy;
mod limit;
pub(crate) mod limit_rule;
mod limit_subject;
mod sources;
mod when;

use std::time::Duration;

use clap::Args;

#[cfg(test)]
pub(crate) use self::sources::OPTIONS_WITH_VARIABLES;
pub(crate) use self::{
    credentials::Credentials,
    customer_address::CustomerAddress,
    expiry::{Expiry, NewExpiry},
    leak_policy::LeakPolicyChange,
    limit::Limit,
    limit_rule::LimitRule,
    limit_subject::{LimitHolder, LimitSubject, ListedSubject},
    sources::OptionSources,
    when::When,
};
use crate::{failure::RequestContext, time};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Endpoint of the service: http:// or https://
    #[arg(
        long,
        global = true,
        env = "TENANTCTL_ENDPOINT",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub(crate) endpoint: String,

    #[command(flatten)]
    pub(crate) credentials: Credentials,

    /// Timeout of one request, such as 500ms or 1m
    #[arg(long, global = true, default_value = "5s", value_parser = time::parse_timeout, value_name = "TIME")]
    pub(crate) timeout: Duration,

    /// Print one JSON document instead of text; errors too (on standard error)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Which of these options were set by environment variables.
    #[arg(skip)]
    pub(crate) sources: OptionSources,
}

impl Globals {
    /// Returns the context that an error report needs.
    pub(crate) fn request_context(&self) -> RequestContext<'_> {
        RequestContext {
            endpoint: &self.endpoint,
            endpoint_option: self.sources.name("--endpoint"),
            timeout: self.timeout,
            has_credentials: self.credentials.has_caller_identity(),
        }
    }
}
