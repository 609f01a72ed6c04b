//! The expiry of a key.

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

/// The expiry of a key that has one already.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct NewExpiry {
    /// Expire the key after this time by the service's clock, such as 90d or 12h; default: as it is
    #[arg(long, value_parser = time::parse_span, value_name = "TIME", group = "changes", conflicts_with = "expires_at")]
    expires_in: Option<Duration>,

    /// Expire the key at this time, such as 2030-01-31T00:00:00Z
    #[arg(long, value_parser = time::parse_moment, value_name = "RFC3339", group = "changes")]
    expires_at: Option<Moment>,

    /// The key does not expire
    #[arg(long, group = "changes", conflicts_with_all = ["expires_in", "expires_at"])]
    no_expiry: bool,
}

impl NewExpiry {
    /// Whether the key gets another expiry, or none.
    pub(crate) fn is_given(self) -> bool {
        self.no_expiry || self.expires_in.is_some() || self.expires_at.is_some()
    }

    /// Whether the key will not expire.
    pub(crate) fn is_never(self) -> bool {
        self.no_expiry
    }

    /// Returns when the key expires; `None` for never, or if no option is given.
    pub(crate) async fn timestamp(
        self,
        now: impl AsyncFnOnce() -> Result<Moment, Failure>,
    ) -> Result<Option<Timestamp>, Failure> {
        Expiry { expires_in: self.expires_in, expires_at: self.expires_at }.timestamp(now).await
    }
}
