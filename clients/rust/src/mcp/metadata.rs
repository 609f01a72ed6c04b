//! The metadata of a protected resource (RFC 9728).

use http::{
    HeaderValue, Method, Response, Uri,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE},
};
use http_body_util::Full;
use serde_json::json;
use tonic::codegen::Bytes;

use super::{McpPolicy, rejection::McpRejection};
use crate::{Error, options::setup_error};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata, prepared.
#[derive(Clone, Debug)]
pub(super) struct ResourceMetadata {
    path: String,
    /// Where clients find it.
    pub(super) url: String,
    body: String,
}

/// Returns whether a path is one of the metadata of some resource.
pub(super) fn is_metadata_path(path: &str) -> bool {
    path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl ResourceMetadata {
    /// # Errors
    /// [`Error::Setup`] for a resource or a server that is not an absolute `http` or `https` URI without a fragment, or
    /// without servers.
    pub(super) fn new(resource: &str, servers: &[String], policy: Option<&McpPolicy>) -> Result<Self, Error> {
        let uri = absolute_uri("resource", resource)?;
        if servers.is_empty() {
            return Err(setup_error("authorization_servers: must name at least one server".to_owned()));
        }
        for server in servers {
            absolute_uri("authorization_servers", server)?;
        }
        let (scheme, authority) =
            (uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |all| all.as_str()));
        // The slash after the host is no path of its own.
        let path = format!("{WELL_KNOWN}{}", if uri.path() == "/" { "" } else { uri.path() });
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut body = json!({
            "resource": resource,
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        });
        let scopes = policy.map(McpPolicy::all_scopes).unwrap_or_default();
        if !scopes.is_empty() {
            body["scopes_supported"] = json!(scopes);
        }
        Ok(Self { url: format!("{scheme}://{authority}{path}{query}"), path, body: body.to_string() })
    }

    /// Returns the metadata, which need no key.
    pub(super) fn respond(&self, method: &Method, path: &str) -> Result<Response<Full<Bytes>>, McpRejection> {
        if path != self.path {
            return Err(McpRejection::NotFound);
        }
        if method != Method::GET && method != Method::HEAD {
            return Err(McpRejection::MethodNotAllowed);
        }
        let mut response = Response::new(Full::from(self.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // It is public, and clients in browsers read it before they have a key.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        Ok(response)
    }
}

fn absolute_uri(name: &str, text: &str) -> Result<Uri, Error> {
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|all| !all.as_str().contains('@'))
            && !text.contains(['#', '"', '\\'])
    });
    uri.ok_or_else(|| {
        setup_error(format!(
            "{name}: invalid URI {text:?}: must be absolute, such as https://example.com/mcp, without a fragment"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_address_are_derived_from_the_resource() {
        let servers = ["https://login.example.com".to_owned()];
        for (resource, path, url) in [
            ("https://a.example/mcp", "/mcp", "https://a.example/.well-known/oauth-protected-resource/mcp"),
            ("https://a.example/", "", "https://a.example/.well-known/oauth-protected-resource"),
            ("https://a.example", "", "https://a.example/.well-known/oauth-protected-resource"),
            ("http://127.0.0.1:80/m/", "/m/", "http://127.0.0.1:80/.well-known/oauth-protected-resource/m/"),
            ("https://a.example/m?t=1", "/m", "https://a.example/.well-known/oauth-protected-resource/m?t=1"),
        ] {
            let metadata = ResourceMetadata::new(resource, &servers, None).unwrap();
            assert_eq!((&metadata.path, &*metadata.url), (&format!("{WELL_KNOWN}{path}"), url), "{resource}");
        }
        for bad in ["", "/mcp", "ftp://a/mcp", "https://a/mcp#x", "https://u@a/mcp", "a.example"] {
            assert!(ResourceMetadata::new(bad, &servers, None).is_err(), "{bad}");
            assert!(ResourceMetadata::new("https://a/mcp", &[bad.to_owned()], None).is_err(), "{bad}");
        }
        assert!(ResourceMetadata::new("https://a/mcp", &[], None).is_err());
    }
}
