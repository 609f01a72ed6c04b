//! A read replica of the database with a URL of its own.

use std::{path::Path, sync::Arc};

use url::Url;

use super::{
    DatabaseAddress, DatabaseLocation, TOKEN_FILE, URL, is_loopback, parse_database_address,
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
        let address = reader.optional(READ_URL, parse_database_address);
        let own_token = reader.optional(READ_TOKEN_FILE, |path| TokenFile::open(Path::new(path)).map(Arc::new));
        let (address, own_token, primary) = (address?, own_token?, primary?);
        let Some(address) = address else {
            if own_token.is_some() {
                reader.report_problem(READ_TOKEN_FILE, format!("not used without {READ_URL}; set that, or remove this"));
                return None;
            }
            return Some(None);
        };
        let url_name = reader.given_name(URL);
        let (DatabaseAddress::Http(url), DatabaseLocation::Remote { url: primary_url, .. }) = (address, primary)
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
        if url.scheme() == "http" && primary_url.scheme() == "https" && token_file.is_some() && !is_loopback(&url) {
            reader.report_problem(
                READ_URL,
                format!("would send the database token without TLS to {url}, while {url_name} uses TLS; use https://"),
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
