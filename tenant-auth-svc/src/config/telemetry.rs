//! Export of spans and metrics.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::reader::{ConfigReader, OTEL_ATTRIBUTES, OTEL_HEADERS, OTEL_SERVICE_NAME};

/// Export of spans and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetryConfig {
    /// `None`: no export. `/metrics` is served in any case.
    pub otlp: Option<OtlpConfig>,
}

/// An OTLP collector over gRPC, and what is exported to it.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// `TENANT_AUTH_OTLP_ENDPOINT`: the collector's `http://` or `https://` address, for example
    /// `http://localhost:4317`. Default none: nothing is exported, and no request is traced.
    pub endpoint: Uri,
    /// `TENANT_AUTH_TRACE_SAMPLE`: the ratio, 0 to 1, of requests that are traced if the caller does not decide (by
    /// `traceparent`). Default `0.01`.
    pub sample_ratio: f64,
    /// `OTEL_EXPORTER_OTLP_HEADERS`: headers of every export request, for example an API key of the collector:
    /// `name=value`, comma-separated, values percent-encoded. Default none. Secret; never displayed.
    pub headers: HeaderMap,
    /// `OTEL_SERVICE_NAME`: name of this service. Default `tenant-auth-svc`, or `service.name` of the attributes.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`: further attributes of this replica: `name=value`, comma-separated, values
    /// percent-encoded. Default none. `service.version` is always the version of the program.
    pub attributes: Vec<(String, String)>,
}

impl TelemetryConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let endpoint = reader.optional("TENANT_AUTH_OTLP_ENDPOINT", parse_endpoint);
        let sample = reader.value("TENANT_AUTH_TRACE_SAMPLE", "0.01", parse_sample_ratio);
        // These variables may be set for all programs of a host, so they are checked only if this service exports.
        let exports = matches!(endpoint, Some(Some(_)));
        let headers = reader
            .secret(OTEL_HEADERS, |text| if exports { parse_headers(text) } else { Ok(HeaderMap::new()) });
        let service_name = reader.optional(OTEL_SERVICE_NAME, |text| Ok::<_, String>(text.to_owned()));
        let attributes =
            reader.optional(OTEL_ATTRIBUTES, |text| if exports { parse_pairs(text) } else { Ok(Vec::new()) });
        let (sample, service_name) = (sample?, service_name?);
        let (headers, attributes) = (headers?.unwrap_or_default(), attributes?.unwrap_or_default());
        let otlp = endpoint?.map(|endpoint| OtlpConfig {
            endpoint,
            sample_ratio: sample,
            headers,
            service_name,
            attributes,
        });
        Some(Self { otlp })
    }
}

/// Parses a list in OpenTelemetry's format, which is that of W3C baggage. Errors never contain a value.
fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let invalid = |index: usize| {
        format!("must be name=value, comma-separated, values percent-encoded: entry {} is invalid", index + 1)
    };
    let entries = text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty());
    entries
        .map(|(index, entry)| {
            let (name, value) = entry.split_once('=').ok_or_else(|| invalid(index))?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| invalid(index))?;
            let name = name.trim();
            if name.is_empty() { Err(invalid(index)) } else { Ok((name.to_owned(), value.into_owned())) }
        })
        .collect()
}

fn parse_headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in parse_pairs(text)? {
        let invalid = |_| format!("invalid header {name:?}: use names of ASCII letters and printable values");
        let header: HeaderName = name.parse().map_err(|_| invalid(()))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| invalid(()))?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

fn parse_endpoint(text: &str) -> Result<Uri, String> {
    let invalid = || format!("must be an address such as http://localhost:4317, not {text:?}");
    let uri: Uri = text.parse().map_err(|_| invalid())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let anonymous = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if known && plain && anonymous { Ok(uri) } else { Err(invalid()) }
}

fn parse_sample_ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("must be a ratio from 0 to 1, not {text:?}"))?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(format!("must be a ratio from 0 to 1, not {text:?}"))
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
        let mut reader = ConfigReader::new(settings);
        let config = TelemetryConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems.len()).map(|_| config.unwrap())
    }

    fn read_otel(endpoint: Option<&str>, headers: &str, attributes: &str) -> Result<TelemetryConfig, String> {
        let settings = Settings::default()
            .with_flag("TENANT_AUTH_OTLP_ENDPOINT", endpoint.map(str::to_owned))
            .with_flag(OTEL_HEADERS, Some(headers.to_owned()))
            .with_flag(OTEL_ATTRIBUTES, Some(attributes.to_owned()));
        let mut reader = ConfigReader::new(settings);
        let config = TelemetryConfig::read(&mut reader);
        let debug_output = format!("{reader:?}");
        assert!(!debug_output.contains("word"), "the headers are a secret: {debug_output}");
        reader.finish().map_err(|problems| problems[0].to_string()).map(|_| config.unwrap())
    }

    #[test]
    fn otel_variables_are_checked_only_with_an_endpoint() {
        let here = Some("http://localhost:4317");
        let otlp =
            read_otel(here, "x-key=pass%20word, B=2,", "a.b=c%2Cd,service.name=auth").unwrap().otlp.unwrap();
        assert_eq!(
            (otlp.headers["x-key"].as_bytes(), otlp.headers["b"].as_bytes()),
            (&b"pass word"[..], &b"2"[..])
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(otlp.attributes, [pair("a.b", "c,d"), pair("service.name", "auth")]);
        assert!(!format!("{otlp:?}").contains("word"));
        for wrong in ["x-key", "=word", "x-key=%ff", "x key=word", "x-key=a%0Aword"] {
            let error = read_otel(here, wrong, "").unwrap_err();
            assert!(error.starts_with(OTEL_HEADERS) && !error.contains("word"), "{error}");
            assert_eq!(
                read_otel(None, wrong, "x=%ff").unwrap().otlp,
                None,
                "without an endpoint, nothing is checked"
            );
        }
    }

    #[test]
    fn telemetry_config_bounds_and_defaults() {
        assert_eq!(read(None, None).unwrap().otlp, None);
        let sent = read(Some("http://collector:4317"), None).unwrap().otlp.unwrap();
        assert_eq!((sent.endpoint.port_u16(), sent.sample_ratio), (Some(4_317), 0.01));
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
