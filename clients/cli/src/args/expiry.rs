//! When a new key ends.

use std::time::Duration;

use clap::Args;
use prost_types::Timestamp;

use crate::{
    failure::Failure,
    time::{self, Moment},
};

#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Expiry {
    /// Let the key end after this time by the service's clock, such as 90d or 12h; never, unless given
    #[arg(long, value_parser = time::parse_span, value_name = "TIME")]
    expires_in: Option<Duration>,

    /// Let the key end then, such as 2030-01-31T00:00:00Z
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339")]
    expires_at: Option<Moment>,
}

impl Expiry {
    /// When the key ends; `None`: never. Only a time from now on needs to know what now is, by the service's clock: that is the
    /// one by which the key will end.
    pub(crate) async fn timestamp(
        self,
        now: impl AsyncFnOnce() -> Result<Moment, Failure>,
    ) -> Result<Option<Timestamp>, Failure> {
        let end = match self.expires_in {
            Some(span) => {
                let end = now().await?.after(span);
                Some(end.ok_or_else(|| Failure::usage("--expires-in reaches too far into the future"))?)
            }
            None => self.expires_at,
        };
        Ok(end.map(Timestamp::from))
    }
}
