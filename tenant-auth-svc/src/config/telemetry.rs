//! Where spans and metrics are sent.

use http::Uri;

use super::reader::Reader;

/// Where spans and metrics are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// `None`: nowhere. `/metrics` is there all the same.
    pub otlp: Option<OtlpConfig>,
}

/// A collector that speaks OTLP over gRPC, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// `TENANT_AUTH_OTLP_ENDPOINT`: its `http://` or `https://` address, such as `http://localhost:4317`. Default none:
    /// nothing is sent, and no request is traced.
    pub endpoint: Uri,
    /// `TENANT_AUTH_TRACE_SAMPLE`: the share, 0 to 1, of requests that are traced where the caller does not say whether to
    /// (by `traceparent`). Default `0.01`.
    pub sample: f64,
}

impl TelemetryConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let endpoint = reader.optional("TENANT_AUTH_OTLP_ENDPOINT", endpoint);
        let sample = reader.value("TENANT_AUTH_TRACE_SAMPLE", "0.01", share);
        let sample = sample?;
        Some(Self { otlp: endpoint?.map(|endpoint| OtlpConfig { endpoint, sample }) })
    }
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let wrong = || format!("must be an address such as http://localhost:4317, not {text:?}");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let anonymous = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if known && plain && anonymous { Ok(uri) } else { Err(wrong()) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("must be a share from 0 to 1, not {text:?}"))?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(format!("must be a share from 0 to 1, not {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(endpoint: Option<&str>, sample: Option<&str>) -> Result<TelemetryConfig, usize> {
        let settings = Settings::default()
            .with_flag("TENANT_AUTH_OTLP_ENDPOINT", endpoint.map(str::to_owned))
            .with_flag("TENANT_AUTH_TRACE_SAMPLE", sample.map(str::to_owned));
        let mut reader = Reader::new(settings);
        let config = TelemetryConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    #[test]
    fn bounds_and_defaults() {
        assert_eq!(read(None, None).unwrap().otlp, None);
        let sent = read(Some("http://collector:4317"), None).unwrap().otlp.unwrap();
        assert_eq!((sent.endpoint.port_u16(), sent.sample), (Some(4_317), 0.01));
        for (endpoint, sample) in [("https://collector.example", "0"), ("http://[::1]:4317/", "1")] {
            assert!(read(Some(endpoint), Some(sample)).is_ok(), "{endpoint}");
        }
        for (endpoint, sample) in [
            ("localhost:4317", "-0.1"),
            ("grpc://localhost:4317", "1.1"),
            ("http://user:word@localhost:4317", "NaN"),
            ("http://localhost:4318/v1/traces", "1%"),
            ("unix:///run/collector", "all"),
        ] {
            assert_eq!(read(Some(endpoint), Some(sample)), Err(2), "{endpoint}");
        }
    }
}
