//! Values from text: durations, addresses, numbers, flags. What is wrong completes the sentence "the value …".

use std::net::{SocketAddr, ToSocketAddrs as _};

/// Parses a duration such as `300ms`, `5s` or `4h`.
///
/// # Errors
/// Completes the sentence "the value …".
pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("is no duration such as 300ms, 5s or 4h: {text:?}"))
}

/// Parses an address to listen on: `0.0.0.0:50051`, `[::]:50051`, or the name of a host and a port. Of a name with several addresses
/// the first one of IPv4 is taken, which is what people write down.
///
/// # Errors
/// Completes the sentence "the value …".
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong =
        || format!("must be an address and a port such as 0.0.0.0:50051 or localhost:50051, not {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    // What has no letter is a mistyped address: resolvers take 7 for 0.0.0.7.
    let is_name = host.bytes().any(|b| b.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !is_name {
        return Err(wrong());
    }
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> =
        found.map_err(|error| format!("names {host}, which cannot be found: {error}"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or_else(|| found.first()).copied();
    first.ok_or_else(|| format!("names {host}, which has no address"))
}

/// Parses a whole number within bounds.
///
/// # Errors
/// Completes the sentence "the value …".
pub(super) fn parse_number(
    bounds: std::ops::RangeInclusive<u64>,
) -> impl FnOnce(&str) -> Result<u64, String> {
    move |text| {
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            format!("must be a whole number from {} to {}, not {text:?}", bounds.start(), bounds.end())
        })
    }
}

/// Parses `true` or `false`.
///
/// # Errors
/// Completes the sentence "the value …".
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("must be true or false, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_may_be_a_host_name() {
        for (text, port) in
            [("0.0.0.0:1", 1), ("[::1]:2", 2), ("localhost:0", 0), ("localhost:50051", 50_051)]
        {
            assert_eq!(parse_address(text).unwrap().port(), port, "{text}");
        }
        assert!(parse_address("localhost:1").unwrap().ip().is_loopback());
        for wrong in [
            "",
            "50051",
            ":50051",
            "::1:50051",
            "127.1:1",
            "7:1",
            "localhost",
            "localhost:",
            "localhost:70000",
            "a b:1",
        ] {
            let refused = parse_address(wrong).unwrap_err();
            assert!(
                refused.starts_with("must be an address and a port") && refused.contains(wrong),
                "{refused}"
            );
        }
        let unknown = parse_address("no-such-host.invalid:1").unwrap_err();
        assert!(unknown.starts_with("names no-such-host.invalid, which cannot be found"), "{unknown}");
    }
}
