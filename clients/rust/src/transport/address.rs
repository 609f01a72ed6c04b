//! Parses endpoints.

use std::{fmt, net::Ipv6Addr};

use crate::{Error, options::setup_error};

/// A host, as a name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Formats as `host:port`, as in `:authority`; an IPv6 address is in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The encryption that an endpoint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// Not specified.
    None,
    Plaintext,
    Tls,
}

/// Parses endpoints; each may contain several, separated by commas. Returns whether TLS is used: because of
/// `https://`, or because there are TLS settings.
///
/// # Errors
/// [`Error::Setup`] if an endpoint is invalid, or plaintext and TLS are mixed.
pub(crate) fn parse_endpoints(endpoints: &[String], has_tls: bool) -> Result<(Vec<Address>, bool), Error> {
    let mut addresses: Vec<Address> = Vec::new();
    let (mut plain, mut secure) = (None, None);
    for text in endpoints.iter().flat_map(|endpoints| endpoints.split(',')) {
        let (scheme, address) = parse_endpoint(text)?;
        match scheme {
            Scheme::None => {}
            Scheme::Plaintext => plain = Some(text),
            Scheme::Tls => secure = Some(text),
        }
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match (plain, secure) {
        (Some(plain), Some(secure)) => Err(setup_error(format!(
            "endpoint {plain:?} is plaintext and {secure:?} is TLS: all endpoints must be of one kind"
        ))),
        (Some(plain), None) if has_tls => Err(setup_error(format!(
            "endpoint {plain:?} is plaintext, but there are TLS settings: use https://, or remove the settings"
        ))),
        _ => Ok((addresses, has_tls || secure.is_some())),
    }
}

fn parse_endpoint(text: &str) -> Result<(Scheme, Address), Error> {
    let invalid =
        |reason: &str| setup_error(format!("invalid endpoint {text:?}: {reason}, such as 127.0.0.1:50051"));
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::None, text),
        Some(("http", rest)) => (Scheme::Plaintext, rest),
        Some(("https", rest)) => (Scheme::Tls, rest),
        Some(("dns", rest)) => match rest.strip_prefix('/') {
            Some(rest) => (Scheme::None, rest),
            None => return Err(invalid("must be dns:/// and host:port, or host:port alone")),
        },
        Some(_) => return Err(invalid("must be host:port, or start with http://, https:// or dns:///")),
    };
    if rest.is_empty() {
        return Err(invalid("empty: must be host:port"));
    }
    if let Some(found) = rest.chars().find(|c| !c.is_ascii_graphic() || "/?#@%\\".contains(*c)) {
        return Err(invalid(&format!("unexpected {found:?}: must be host:port and nothing else")));
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) =
                rest.split_once(']').ok_or_else(|| invalid("missing ]: must be [address]:port"))?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(invalid("no IPv6 address between the brackets: must be host:port"));
            }
            (host, port.strip_prefix(':'))
        }
        None => match rest.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(invalid("IPv6 address without brackets: must be [address]:port"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if host.is_empty() || !(host.contains(':') || host.chars().all(is_name)) {
        return Err(invalid("no host: must be host:port"));
    }
    let port = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
    let port = port.ok_or_else(|| invalid("no port from 1 to 65535: must be host:port"))?;
    Ok((scheme, Address { host: host.to_owned(), port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(text: &str) -> Result<(Vec<Address>, bool), Error> {
        parse_endpoints(&[text.to_owned()], false)
    }

    #[test]
    fn every_endpoint_form_is_parsed() {
        for (text, expected, is_secure) in [
            ("host:1", "host:1", false),
            ("1.2.3.4:65535", "1.2.3.4:65535", false),
            ("[::1]:50051", "[::1]:50051", false),
            ("dns:///a.b:50051", "a.b:50051", false),
            ("dns:///[::1]:50051", "[::1]:50051", false),
            ("http://host:80", "host:80", false),
            ("https://host:443", "host:443", true),
            ("https://[2001:db8::1]:443", "[2001:db8::1]:443", true),
        ] {
            let (addresses, secure) = parse_one(text).unwrap();
            assert_eq!((addresses[0].to_string().as_str(), secure), (expected, is_secure), "{text}");
        }
        let (several, _) =
            parse_endpoints(&["a:1,b:2".to_owned(), "a:1".to_owned(), "c:3".to_owned()], false).unwrap();
        assert_eq!(several.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "b:2", "c:3"]);
        // TLS settings decide if the endpoint has no scheme.
        assert!(parse_endpoints(&["a:1".to_owned()], true).unwrap().1);
        assert!(parse_one("a:1,https://b:2").unwrap().1);
    }

    #[test]
    fn invalid_endpoint_is_rejected_by_value() {
        for text in [
            "",
            " ",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:x",
            ":1",
            "a:1,",
            ",",
            "a:1, b:2",
            "::1",
            "::1:50051",
            "[::1]",
            "[::1]50051",
            "[::1",
            "[x]:1",
            "http://",
            "http://host",
            "http://a b:1",
            "http://a:1/",
            "http://a:1/path",
            "https://u:p@a:1",
            "grpc://a:1",
            "ftp://a:1",
            "unix:/tmp/x",
            "dns://a:1",
            "a:1?x",
            "http://[::1]",
            "a:1\n",
            "ä:1",
            "HTTP://a:1",
        ] {
            let Err(Error::Setup { message }) = parse_one(text) else { unreachable!("{text} was accepted") };
            let named = text.split(',').any(|text| message.contains(&format!("{text:?}")));
            assert!(
                named && message.contains("host:port") || message.contains("[address]:port"),
                "{message}"
            );
        }
    }

    #[test]
    fn mixed_plaintext_and_tls_is_rejected() {
        assert!(parse_one("http://a:1,https://b:2").is_err());
        assert!(parse_endpoints(&["http://a:1".to_owned()], true).is_err());
        assert!(parse_endpoints(&["a:1".to_owned(), "http://b:1".to_owned()], true).is_err());
    }
}
