//! What all commands take, and what several do.

mod credentials;
mod expiry;
mod given;
mod limit;
mod when;

use std::time::Duration;

use clap::Args;

#[cfg(test)]
pub(crate) use self::given::OPTIONS;
pub(crate) use self::{credentials::Credentials, expiry::Expiry, given::Given, limit::Limit, when::When};
use crate::{failure::Asked, time};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Globals {
    /// Where the service listens: http:// or https://
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

    /// How long to wait for one answer, such as 500ms or 1m
    #[arg(long, global = true, default_value = "5s", value_parser = time::wait, value_name = "TIME")]
    pub(crate) timeout: Duration,

    /// Print one JSON document instead of text, an error too (on standard error)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Which of these came from their variables.
    #[arg(skip)]
    pub(crate) given: Given,
}

impl Globals {
    /// What a failure has to know of them.
    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            endpoint: &self.endpoint,
            endpoint_given_as: self.given.name("--endpoint"),
            timeout: self.timeout,
            with_credentials: self.credentials.are_given(),
        }
    }
}
