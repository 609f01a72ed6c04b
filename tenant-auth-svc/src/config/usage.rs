//! How usage is metered.

use std::time::Duration;

use super::{
    parse::{duration, number},
    reader::Reader,
};
use crate::{domain::usage::Retention, usage_batcher::GroupConfig};

/// How usage is metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageConfig {
    /// `TENANT_AUTH_USAGE_QUEUE`: the most events that wait to be committed, 500 to 1,000,000; more are refused. Default
    /// `20000`. `TENANT_AUTH_USAGE_FLUSH`: how long the first request waits for others to be committed with, 1 ms to
    /// 100 ms. Default `10ms`.
    pub group: GroupConfig,
    /// `TENANT_AUTH_USAGE_RETENTION`: how long requests are recognised when they are sent again, and events kept for
    /// `reconcile`, 31 to 400 days. Totals stay for ever. Default `35d`.
    pub retention: Retention,
    /// `TENANT_AUTH_USAGE_RECONCILE_INTERVAL`: the time between two comparisons of all totals with their events, 1 h to 7 d, or
    /// `off`. Default `off`: each one reads every event that is kept, and each replica that is told to makes its own.
    pub reconcile: Option<Duration>,
}

impl UsageConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let least = GroupConfig::MIN_EVENTS as u64;
        let events = reader.value("TENANT_AUTH_USAGE_QUEUE", "20000", number(least..=1_000_000));
        let linger = reader.value("TENANT_AUTH_USAGE_FLUSH", "10ms", linger);
        let retention = reader.value("TENANT_AUTH_USAGE_RETENTION", "35d", retention);
        let reconcile = reader.value("TENANT_AUTH_USAGE_RECONCILE_INTERVAL", "off", reconcile);
        let group = GroupConfig { events: usize::try_from(events?).ok()?, linger: linger? };
        Some(Self { group, retention: retention?, reconcile: reconcile? })
    }
}

fn linger(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if (Duration::from_millis(1)..=Duration::from_millis(100)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from 1ms to 100ms, not {text:?}"))
    }
}

fn retention(text: &str) -> Result<Retention, String> {
    Retention::new(duration(text)?).ok_or_else(|| {
        format!("must be from 31d to 400d, not {text:?}: events of the last 30 days are accepted")
    })
}

fn reconcile(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = duration(text)?;
    if (Duration::from_secs(60 * 60)..=Duration::from_secs(7 * 24 * 60 * 60)).contains(&time) {
        Ok(Some(time))
    } else {
        Err(format!("must be from 1h to 7d, or off, not {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(values: [Option<&str>; 4]) -> Result<UsageConfig, usize> {
        let names = [
            "TENANT_AUTH_USAGE_QUEUE",
            "TENANT_AUTH_USAGE_FLUSH",
            "TENANT_AUTH_USAGE_RETENTION",
            "TENANT_AUTH_USAGE_RECONCILE_INTERVAL",
        ];
        let settings = names.into_iter().zip(values).fold(Settings::default(), |settings, (name, value)| {
            settings.with_flag(name, value.map(str::to_owned))
        });
        let mut reader = Reader::new(settings);
        let config = UsageConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    #[test]
    fn bounds_and_defaults() {
        let default = read([None; 4]).unwrap();
        assert_eq!(default.group, GroupConfig { events: 20_000, linger: Duration::from_millis(10) });
        assert_eq!(Some(default.retention), Retention::new(Duration::from_secs(35 * 86_400)));
        assert_eq!(default.reconcile, None);
        let hourly = read([Some("500"), Some("1ms"), Some("31d"), Some("1h")]).unwrap();
        assert_eq!(hourly.reconcile, Some(Duration::from_secs(3_600)));
        assert!(read([Some("1000000"), Some("100ms"), Some("400d"), Some("7d")]).is_ok());
        assert_eq!(read([Some("499"), Some("0ms"), Some("30d"), Some("59m")]), Err(4));
        assert_eq!(read([Some("1000001"), Some("101ms"), Some("401d"), Some("8d")]), Err(4));
    }
}
