//! Creates the client from the environment.

use std::{env, error::Error as StdError, time::Duration};

use tenant_auth_client::{CallerToken, Client, NearCache, Tls};

pub(crate) fn client() -> Result<Client, Box<dyn StdError>> {
    let mut builder = Client::builder(env::var("TENANT_AUTH_ENDPOINTS")?).user_agent("conformance-rust/1.0");
    if let Some(timeout) = variable("TENANT_AUTH_TIMEOUT_MS") {
        builder = builder.timeout(Duration::from_millis(timeout.parse()?));
    }
    if let Some(tls) = tls()? {
        builder = builder.tls(tls);
    }
    if let Some(path) = variable("TENANT_AUTH_TOKEN_FILE") {
        builder = builder.caller_token(CallerToken::file(path));
    } else if let Some(token) = variable("TENANT_AUTH_TOKEN") {
        builder = builder.caller_token(CallerToken::fixed(token));
    }
    let off = |name| variable(name).is_some_and(|value| value == "off");
    if off("TENANT_AUTH_NEAR_CACHE") {
        builder = builder.without_near_cache();
    } else if off("TENANT_AUTH_WATCH") {
        builder = builder.near_cache(NearCache::new().unwatched());
    }
    Ok(builder.connect_lazy()?)
}

fn tls() -> Result<Option<Tls>, Box<dyn StdError>> {
    let mut tls = None;
    if let Some(path) = variable("TENANT_AUTH_TLS_CA_FILE") {
        tls = Some(Tls::new().root_file(path));
    }
    match (variable("TENANT_AUTH_TLS_CERT_FILE"), variable("TENANT_AUTH_TLS_KEY_FILE")) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            tls = Some(tls.unwrap_or_default().identity_files(certificate, key));
        }
        _ => return Err("TENANT_AUTH_TLS_CERT_FILE and TENANT_AUTH_TLS_KEY_FILE must be set together".into()),
    }
    if let Some(name) = variable("TENANT_AUTH_TLS_SERVER_NAME") {
        tls = Some(tls.unwrap_or_default().server_name(name));
    }
    Ok(tls)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}
