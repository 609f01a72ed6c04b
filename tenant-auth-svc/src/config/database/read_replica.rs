//! A read replica of the database with a URL of its own.

use std::{path::Path, sync::Arc};

use url::Url;

use super::{
    DatabaseAddress, DatabaseLocation, PROXY, TOKEN_FILE, URL, is_loopback, parse_database_address,
    parse_remote_url,
};
use crate::{config::reader::ConfigReader, database::hrana::TokenFile};

const READ_URL: &str = "TENANT_AUTH_DATABASE_READ_URL";
const READ_TOKEN_FILE: &str = "TENANT_AUTH_DATABASE_READ_TOKEN_FILE";

/// A read replica of the database with a URL of its own.
#[derive(Debug)]
pub struct ReadReplicaConfig {
    /// `TENANT_AUTH_DATABASE_READ_URL`: a read replica of the database nearby, in the forms of
    /// `TENANT_AUTH_DATABASE_URL`, which then has to be that of the primary. Default none: one URL serves reads and
    /// writes.
    pub url: Url,
    /// `TENANT_AUTH_DATABASE_READ_TOKEN_FILE`: its token. Default: `TENANT_AUTH_DATABASE_TOKEN_FILE`.
    pub token_file: Option<Arc<TokenFile>>,
}

impl ReadReplicaConfig {
    /// Reads the settings and checks them against those of the primary. The outer `None` is a problem that was reported.
    pub(super) fn read(
        reader: &mut ConfigReader,
        primary: Option<&DatabaseLocation>,
        primary_token_file: Option<&Path>,
    ) -> Option<Option<Self>> {
        let address = reader.optional(READ_URL, parse_read_url);
        let own_token =
            reader.optional(READ_TOKEN_FILE, |path| TokenFile::open(Path::new(path)).map(Arc::new));
        let (address, own_token, primary) = (address?, own_token?, primary?);
        let Some(address) = address else {
            if own_token.is_some() {
                reader.report_problem(
                    READ_TOKEN_FILE,
                    format!("not used without {READ_URL}; set that, or remove this"),
                );
                return None;
            }
            return Some(None);
        };
        let url_name = reader.given_name(URL);
        let (DatabaseAddress::Http(url), DatabaseLocation::Remote { url: primary_url, proxy, .. }) =
            (address, primary)
        else {
            reader.report_problem(
                READ_URL,
                format!("not supported with a local file, here or in {url_name}; remove it"),
            );
            return None;
        };
        if is_same_server(&url, primary_url) {
            reader.report_problem(
                READ_URL,
                format!("must not be the URL in {url_name}; remove it, or set it to that of a read replica"),
            );
            return None;
        }
        // A file of its own state: one server may refuse what the other one accepts.
        let token_file = match (own_token, primary_token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => match TokenFile::open(path) {
                Ok(token) => Some(Arc::new(token)),
                Err(error) => {
                    reader.report_problem(TOKEN_FILE, error.to_string());
                    return None;
                }
            },
            (None, None) => None,
        };
        if url.scheme() == "https" && token_file.is_none() {
            reader.report_problem(
                READ_TOKEN_FILE,
                format!("must be set: {READ_URL} is {url}, and a remote database needs a token"),
            );
            return None;
        }
        // The primary's own URL shows whether the operator relies on a private network.
        if url.scheme() == "http"
            && primary_url.scheme() == "https"
            && token_file.is_some()
            && !is_loopback(&url)
        {
            reader.report_problem(
                READ_URL,
                format!("would send the database token without TLS to {url}, while {url_name} uses TLS; use https://"),
            );
            return None;
        }
        let is_shown_to_proxy = proxy.as_ref().is_some_and(|proxy| !is_loopback(proxy));
        if url.scheme() == "http" && token_file.is_some() && is_shown_to_proxy {
            reader.report_problem(
                READ_URL,
                format!("{PROXY} would see the database token, because this is {url}, without TLS; use https://, or a proxy on loopback"),
            );
            return None;
        }
        Some(Some(Self { url, token_file }))
    }
}

/// Whether two URLs name the same database, however they are written.
fn is_same_server(one: &Url, other: &Url) -> bool {
    let parts = |url: &Url| {
        let path = url.path().trim_end_matches('/').to_owned();
        (url.host_str().map(str::to_ascii_lowercase), url.port_or_known_default(), path)
    };
    parts(one) == parts(other)
}

/// A local file is recognised, for an error of its own.
fn parse_read_url(text: &str) -> Result<DatabaseAddress, String> {
    if text.starts_with("file:") {
        return parse_database_address(text);
    }
    let hint = "libsql://… or https://… for Turso, http://… for sqld on a local network";
    parse_remote_url(text, hint).map(DatabaseAddress::Http)
}

#[cfg(test)]
mod tests {
    use crate::config::{ServiceConfig, Settings};

    /// The problems of a configuration whose token files exist, one a line.
    fn problems(variables: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "secret\n").unwrap();
        let mut settings = Settings::default();
        for (variable, value) in variables {
            let value = if *value == "TOKEN" { token.display().to_string() } else { (*value).to_owned() };
            settings = settings.with_flag(variable, Some(value));
        }
        match ServiceConfig::read(settings) {
            Ok(_) => String::new(),
            Err(error) => error.0.iter().map(|problem| format!("{problem}\n")).collect(),
        }
    }

    const URL: (&str, &str) = ("TENANT_AUTH_DATABASE_URL", "https://db.example");
    const TOKEN: (&str, &str) = ("TENANT_AUTH_DATABASE_TOKEN_FILE", "TOKEN");

    fn with_read_url(read_url: &str, more: &[(&str, &str)]) -> String {
        let mut variables = vec![URL, TOKEN, ("TENANT_AUTH_DATABASE_READ_URL", read_url)];
        variables.extend(more);
        problems(&variables)
    }

    #[test]
    fn read_url_is_accepted_in_every_form_of_a_remote_database() {
        for url in [
            "libsql://near.example",
            "https://near.example:8443/base",
            "http://127.0.0.1:8080",
            "https://db.example/near",
        ] {
            assert_eq!(with_read_url(url, &[]), "", "{url}");
        }
        let plain = [
            ("TENANT_AUTH_DATABASE_URL", "http://sqld:8080"),
            ("TENANT_AUTH_DATABASE_READ_URL", "http://near:8080"),
        ];
        assert_eq!(problems(&plain), "", "on a private network, without a token");
        assert_eq!(problems(&[&plain[..], &[TOKEN]].concat()), "", "as the primary's");
        assert_eq!(
            with_read_url("https://near.example", &[("TENANT_AUTH_DATABASE_READ_TOKEN_FILE", "TOKEN")]),
            ""
        );
    }

    #[test]
    fn read_url_that_cannot_work_is_refused_with_its_remedy() {
        let refused = |read_url: &str, more: &[(&str, &str)], reason: &str| {
            let found = with_read_url(read_url, more);
            assert!(found.contains(reason) && found.lines().count() == 1, "{read_url}: {found}");
        };
        for same in ["https://db.example", "libsql://DB.example", "https://db.example:443/"] {
            refused(
                same,
                &[],
                "READ_URL: must not be the URL in TENANT_AUTH_DATABASE_URL; remove it, or set it",
            );
        }
        refused("file:near.db", &[], "not supported with a local file");
        let forms =
            "READ_URL: must be libsql://… or https://… for Turso, http://… for sqld on a local network";
        refused("near.example", &[], forms);
        assert!(!with_read_url("near.example", &[]).contains("file:"), "a local file is not supported");
        refused("https://user:hush@near.example", &[], "must not contain credentials");
        refused(
            "http://near.example:8080",
            &[],
            "without TLS to http://near.example:8080/, while TENANT_AUTH_DATABASE_URL uses TLS; use https://",
        );
        refused(
            "https://near.example",
            &[("TENANT_AUTH_HEARTBEAT_INTERVAL", "off")],
            "HEARTBEAT_INTERVAL: must not be off",
        );
        refused(
            "http://127.0.0.1:8080",
            &[("TENANT_AUTH_DATABASE_PROXY", "http://proxy:3128")],
            "TENANT_AUTH_DATABASE_PROXY would see the database token",
        );
        refused(
            "https://near.example",
            &[("TENANT_AUTH_FEED_INTERVAL", "off")],
            "FEED_INTERVAL: must not be off",
        );
        refused(
            "https://near.example",
            &[("TENANT_AUTH_DATABASE_READ_TOKEN_FILE", "/nowhere")],
            "READ_TOKEN_FILE: cannot read",
        );
    }

    #[test]
    fn read_url_needs_a_remote_primary_and_a_token_where_tls_is_used() {
        let embedded = [
            ("TENANT_AUTH_DATABASE_URL", "file:auth.db"),
            ("TENANT_AUTH_DATABASE_READ_URL", "https://near.example"),
        ];
        assert!(
            problems(&embedded).contains("READ_URL: not supported with a local file"),
            "{}",
            problems(&embedded)
        );
        let without_token = [
            ("TENANT_AUTH_DATABASE_URL", "http://sqld:8080"),
            ("TENANT_AUTH_DATABASE_READ_URL", "https://near.example"),
        ];
        assert!(
            problems(&without_token).contains("READ_TOKEN_FILE: must be set"),
            "{}",
            problems(&without_token)
        );
        let token_only = [URL, TOKEN, ("TENANT_AUTH_DATABASE_READ_TOKEN_FILE", "TOKEN")];
        assert!(
            problems(&token_only).contains("READ_TOKEN_FILE: not used without TENANT_AUTH_DATABASE_READ_URL")
        );
    }
}
