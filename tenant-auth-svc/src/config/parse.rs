//! Parsers of values: durations, addresses, numbers, flags. Each error is shown after the name of the variable and a
//! colon.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// Parses a duration such as `300ms`, `5s` or `4h`.
///
/// # Errors
/// The error names the value and the expected form.
pub(super) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("invalid duration {text:?}: use for example 300ms, 5s or 4h"))
}

/// Parses an address to listen on: `0.0.0.0:50051`, `[::]:50051`, or a host name and a port. Of a name with several
/// addresses, the first IPv4 address is used.
///
/// # Errors
/// The error names the value and the expected form.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let invalid =
        || format!("must be an address and a port such as 0.0.0.0:50051 or localhost:50051, not {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    // A host without a letter is a mistyped address: resolvers take 7 for 0.0.0.7.
    let is_name = host.bytes().any(|b| b.is_ascii_alphabetic())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !is_name {
        return Err(invalid());
    }
    let addresses = (host, port).to_socket_addrs();
    let addresses: Vec<_> =
        addresses.map_err(|error| format!("cannot resolve host {host:?}: {error}"))?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first()).copied();
    first.ok_or_else(|| format!("host {host:?} has no address"))
}

/// Parses an address to listen on, or `off` for none.
///
/// # Errors
/// The error names the value and the expected form.
pub(super) fn parse_optional_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    parse_address(text).map(Some).map_err(|error| format!("{error}; use off for none"))
}

/// Parses an integer within bounds.
///
/// # Errors
/// The error names the value and the bounds.
pub(super) fn parse_number(
    bounds: std::ops::RangeInclusive<u64>,
) -> impl FnOnce(&str) -> Result<u64, String> {
    move |text| {
        text.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            format!("must be an integer from {} to {}, not {text:?}", bounds.start(), bounds.end())
        })
    }
}

/// Parses `true` or `false`.
///
/// # Errors
/// The error names the value.
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
        for invalid in [
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
            let error = parse_address(invalid).unwrap_err();
            assert!(error.starts_with("must be an address and a port") && error.contains(invalid), "{error}");
        }
        let unknown = parse_address("no-such-host.invalid:1").unwrap_err();
        assert!(unknown.starts_with("cannot resolve host \"no-such-host.invalid\""), "{unknown}");
    }
}
