//! An absolute time, or a time before now.

use std::time::Duration;

use crate::{
    failure::Failure,
    time::{self, Moment},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(Moment),
    Ago(Duration),
}

impl When {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let ago = time::parse_span(text).map(Self::Ago);
        ago.or_else(|_| time::parse_moment(text).map(Self::At)).map_err(
            |_| "must be RFC 3339, such as 2030-01-31T00:00:00Z, or a duration before now, such as 2h or 3d",
        )
    }

    /// Resolves the times. Only relative ones need the current time, which is that of the service: the audit
    /// log uses its clock.
    pub(crate) async fn moments<const N: usize>(
        times: [Option<Self>; N],
        now: impl AsyncFnOnce() -> Result<Moment, Failure>,
    ) -> Result<[Option<Moment>; N], Failure> {
        let is_relative = times.iter().any(|when| matches!(when, Some(Self::Ago(_))));
        let now = if is_relative { Some(now().await?) } else { None };
        Ok(times.map(|when| match when? {
            Self::At(moment) => Some(moment),
            Self::Ago(duration) => now.map(|now| now.before(duration)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_relative_times_are_told_apart() {
        assert_eq!(When::parse("2h"), Ok(When::Ago(Duration::from_secs(7_200))));
        assert!(matches!(When::parse("2030-01-31T00:00:00Z"), Ok(When::At(_))));
        for text in ["", "yesterday", "2030-01-31", "-2h"] {
            assert!(When::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn relative_time_counts_from_the_service_clock() {
        let now = time::parse_moment("2030-01-31T12:00:00Z").unwrap();
        let times = [When::parse("2h").ok(), None, When::parse("2030-01-31T11:00:00Z").ok()];
        let moments = When::moments(times, async || Ok(now)).await.unwrap();
        let shown = moments.map(|moment| moment.map(|moment| moment.to_string()));
        assert_eq!(
            shown,
            [Some("2030-01-31T10:00:00Z".to_owned()), None, Some("2030-01-31T11:00:00Z".to_owned())]
        );
        let at = [When::parse("2030-01-31T11:00:00Z").ok()];
        let no_request =
            async || -> Result<Moment, Failure> { Err(Failure::usage("the service must not be called")) };
        assert!(When::moments(at, no_request).await.is_ok());
    }
}
