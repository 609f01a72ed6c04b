//! The expiry of a new key.

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
    /// Expire the key after this time by the service's clock, such as 90d or 12h; default: never
    #[arg(long, value_parser = time::parse_span, value_name = "TIME")]
    expires_in: Option<Duration>,

    /// Expire the key at this time, such as 2030-01-31T00:00:00Z
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339")]
    expires_at: Option<Moment>,
}

impl Expiry {
    /// Returns when the key expires; `None` for never. Only a relative time needs the current time, which is
    /// that of the service: the service's clock decides when the key expires.
    pub(crate) async fn timestamp(
        self,
        now: impl AsyncFnOnce() -> Result<Moment, Failure>,
    ) -> Result<Option<Timestamp>, Failure> {
        let expires_at = match self.expires_in {
            Some(duration) => {
                let expires_at = now().await?.after(duration);
                Some(expires_at.ok_or_else(|| {
                    Failure::usage("--expires-in: too large: the key must expire before the year 10000")
                })?)
            }
            None => self.expires_at,
        };
        Ok(expires_at.map(Timestamp::from))
    }
}
