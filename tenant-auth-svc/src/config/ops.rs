//! Health, metrics and shutdown.

use std::{net::SocketAddr, time::Duration};

use super::{
    InvalidConfig,
    parse::{self, parse_duration},
    reader::{ConfigReader, Settings},
};

/// Health, metrics and shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsConfig {
    /// `TENANT_AUTH_OPS_LISTEN`: address or host name, and port, of `/livez`, `/readyz` and `/metrics` over HTTP;
    /// `None` (`off`) for none. Default `127.0.0.1:50052`. Port 0 takes any free port. The responses contain no
    /// secrets, so the address may be beyond loopback.
    pub listen: Option<SocketAddr>,
    /// `TENANT_AUTH_DRAIN_DELAY`: how long the service continues to serve everything after it reports not ready, so
    /// that load balancers notice. Default `5s`, at most 300 s.
    pub drain_delay: Duration,
}

/// The maximum drain delay: longer than the health-check interval of any load balancer.
const MAX_DRAIN_DELAY: Duration = Duration::from_secs(300);

const LISTEN_VARIABLE: &str = "TENANT_AUTH_OPS_LISTEN";

impl OpsConfig {
    /// Reads only the ops address, regardless of the other settings.
    ///
    /// # Errors
    /// [`InvalidConfig`] when the address is invalid.
    pub fn read_listen_only(settings: Settings) -> Result<Option<SocketAddr>, InvalidConfig> {
        let mut reader = ConfigReader::new(settings.restricted_to(|name| name == LISTEN_VARIABLE));
        let address = Self::read_listen(&mut reader);
        reader.finish().map_err(InvalidConfig)?;
        Ok(address.flatten())
    }

    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let listen = Self::read_listen(reader);
        let drain_delay = reader.value("TENANT_AUTH_DRAIN_DELAY", "5s", parse_drain_delay);
        Some(Self { listen: listen?, drain_delay: drain_delay? })
    }

    fn read_listen(reader: &mut ConfigReader) -> Option<Option<SocketAddr>> {
        reader.value(LISTEN_VARIABLE, "127.0.0.1:50052", parse::parse_optional_address)
    }
}

fn parse_drain_delay(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time <= MAX_DRAIN_DELAY {
        Ok(time)
    } else {
        Err(format!("must be at most {}s, not {text:?}", MAX_DRAIN_DELAY.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(listen: Option<&str>, delay: Option<&str>) -> Result<OpsConfig, usize> {
        let settings = Settings::default()
            .with_flag("TENANT_AUTH_OPS_LISTEN", listen.map(str::to_owned))
            .with_flag("TENANT_AUTH_DRAIN_DELAY", delay.map(str::to_owned));
        let mut reader = ConfigReader::new(settings);
        let config = OpsConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    #[test]
    fn ops_config_bounds_and_defaults() {
        let default = read(None, None).unwrap();
        assert_eq!(default.listen, Some("127.0.0.1:50052".parse().unwrap()));
        assert_eq!(default.drain_delay, Duration::from_secs(5));
        assert_eq!(read(Some("off"), Some("0s")).unwrap().listen, None);
        assert!(read(Some("0.0.0.0:0"), Some("300s")).is_ok(), "beyond loopback is allowed");
        assert_eq!(read(Some("50052"), Some("301s")), Err(2));
        assert_eq!(read(Some("localhost"), Some("5")), Err(2));
        assert!(read(Some("localhost:50052"), None).unwrap().listen.unwrap().ip().is_loopback());
    }
}
