//! What those who run the service see of it, and how it ends.

use std::{net::SocketAddr, time::Duration};

use super::{
    Invalid,
    parse::{self, duration},
    reader::{Reader, Settings},
};

/// What those who run the service see of it, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsConfig {
    /// `TENANT_AUTH_OPS_LISTEN`: address, or name of a host, and port for `/livez`, `/readyz` and `/metrics` over HTTP; `None` (`off`) for none.
    /// Default `127.0.0.1:50052`. Port 0 takes any free one. There is no secret in what they say, so that it may be
    /// beyond loopback.
    pub listen: Option<SocketAddr>,
    /// `TENANT_AUTH_DRAIN_DELAY`: for how long everything is still served after the service has begun to say that it
    /// is not ready, so that load balancers notice. Default `5s`, at most 300 s.
    pub drain_delay: Duration,
}

/// The longest drain delay: longer than any load balancer looks away.
const LONGEST: Duration = Duration::from_secs(300);

const LISTEN: &str = "TENANT_AUTH_OPS_LISTEN";

impl OpsConfig {
    /// Where a service with these settings tells how it is, whatever else is set.
    ///
    /// # Errors
    /// [`Invalid`] when that is no address.
    pub fn listen_alone(settings: Settings) -> Result<Option<SocketAddr>, Invalid> {
        let mut reader = Reader::new(settings.restricted_to(|name| name == LISTEN));
        let address = Self::read_listen(&mut reader);
        reader.finish().map_err(Invalid)?;
        Ok(address.flatten())
    }

    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let listen = Self::read_listen(reader);
        let drain_delay = reader.value("TENANT_AUTH_DRAIN_DELAY", "5s", delay);
        Some(Self { listen: listen?, drain_delay: drain_delay? })
    }

    fn read_listen(reader: &mut Reader) -> Option<Option<SocketAddr>> {
        reader.value(LISTEN, "127.0.0.1:50052", listen)
    }
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    parse::address(text).map(Some).map_err(|why| format!("{why}; off for none"))
}

fn delay(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time <= LONGEST {
        Ok(time)
    } else {
        Err(format!("must be at most {}s, not {text:?}", LONGEST.as_secs()))
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
        let mut reader = Reader::new(settings);
        let config = OpsConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    #[test]
    fn bounds_and_defaults() {
        let default = read(None, None).unwrap();
        assert_eq!(default.listen, Some("127.0.0.1:50052".parse().unwrap()));
        assert_eq!(default.drain_delay, Duration::from_secs(5));
        assert_eq!(read(Some("off"), Some("0s")).unwrap().listen, None);
        assert!(read(Some("0.0.0.0:0"), Some("300s")).is_ok(), "beyond loopback, without another word");
        assert_eq!(read(Some("50052"), Some("301s")), Err(2));
        assert_eq!(read(Some("localhost"), Some("5")), Err(2));
        assert!(read(Some("localhost:50052"), None).unwrap().listen.unwrap().ip().is_loopback());
    }
}
