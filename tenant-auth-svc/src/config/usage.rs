//! Recording of usage.

use std::time::Duration;

use super::{
    parse::{parse_duration, parse_number},
    reader::ConfigReader,
};
use crate::{domain::usage::UsageRetention, usage_batcher::BatcherConfig};

/// Recording of usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageConfig {
    /// `TENANT_AUTH_USAGE_QUEUE`: maximum number of events queued for a commit, 500 to 1,000,000; further events are
    /// rejected. Default `20000`. `TENANT_AUTH_USAGE_FLUSH`: batch delay, that is, how long the first request of a
    /// batch waits for others to be committed with it, 1 ms to 100 ms. Default `10ms`.
    pub batcher: BatcherConfig,
    /// `TENANT_AUTH_USAGE_RETENTION`: how long a request id is recognised when a request is repeated, and how long
    /// events are kept for `reconcile`, 31 to 400 days. Totals are kept forever. Default `35d`.
    pub retention: UsageRetention,
    /// `TENANT_AUTH_USAGE_RECONCILE_INTERVAL`: the time between two comparisons of all totals with their events, 1 h
    /// to 7 d, or `off`. Default `off`: each comparison reads every stored event, and each replica with an interval
    /// runs its own comparison.
    pub reconcile_interval: Option<Duration>,
}

impl UsageConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let min_events = BatcherConfig::MIN_QUEUED_EVENTS as u64;
        let events = reader.value("TENANT_AUTH_USAGE_QUEUE", "20000", parse_number(min_events..=1_000_000));
        let batch_delay = reader.value("TENANT_AUTH_USAGE_FLUSH", "10ms", parse_flush_delay);
        let retention = reader.value("TENANT_AUTH_USAGE_RETENTION", "35d", parse_retention);
        let reconcile = reader.value("TENANT_AUTH_USAGE_RECONCILE_INTERVAL", "off", parse_reconcile_interval);
        let batcher =
            BatcherConfig { max_queued_events: usize::try_from(events?).ok()?, batch_delay: batch_delay? };
        Some(Self { batcher, retention: retention?, reconcile_interval: reconcile? })
    }
}

fn parse_flush_delay(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (Duration::from_millis(1)..=Duration::from_millis(100)).contains(&time) {
        Ok(time)
    } else {
        Err(format!("must be from 1ms to 100ms, not {text:?}"))
    }
}

fn parse_retention(text: &str) -> Result<UsageRetention, String> {
    UsageRetention::new(parse_duration(text)?).ok_or_else(|| {
        format!("must be from 31d to 400d, not {text:?}: events of the last 30 days are accepted")
    })
}

fn parse_reconcile_interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "off" {
        return Ok(None);
    }
    let time = parse_duration(text)?;
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
        let mut reader = ConfigReader::new(settings);
        let config = UsageConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    #[test]
    fn usage_config_bounds_and_defaults() {
        let default = read([None; 4]).unwrap();
        assert_eq!(
            default.batcher,
            BatcherConfig { max_queued_events: 20_000, batch_delay: Duration::from_millis(10) }
        );
        assert_eq!(Some(default.retention), UsageRetention::new(Duration::from_secs(35 * 86_400)));
        assert_eq!(default.reconcile_interval, None);
        let hourly = read([Some("500"), Some("1ms"), Some("31d"), Some("1h")]).unwrap();
        assert_eq!(hourly.reconcile_interval, Some(Duration::from_secs(3_600)));
        assert!(read([Some("1000000"), Some("100ms"), Some("400d"), Some("7d")]).is_ok());
        assert_eq!(read([Some("499"), Some("0ms"), Some("30d"), Some("59m")]), Err(4));
        assert_eq!(read([Some("1000001"), Some("101ms"), Some("401d"), Some("8d")]), Err(4));
    }
}
