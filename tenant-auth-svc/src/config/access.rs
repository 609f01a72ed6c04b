//! Which services may call, and the deny list.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::reader::ConfigReader;
use crate::domain::{
    access::{CallerEntry, Callers, Role, Roles, TokenHash},
    deny::DenyList,
};

/// Which services may call, and the deny list.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// `TENANT_AUTH_CALLERS_FILE`: a TOML file with one `[[caller]]` for each service that may call. Default none:
    /// every client that can connect may call everything.
    pub callers: Option<CallersFile>,
    /// `TENANT_AUTH_DENY_FILE`: a file of keys and tenants to deny regardless of the database, one per line: a key
    /// id, `tenant:<id>` or `sha256:<hex>`. Default none.
    pub deny_list: Option<DenyFile>,
}

/// A deny list as read at startup.
#[derive(Clone, Debug)]
pub struct DenyFile {
    /// The file. It is reloaded when it changes.
    pub path: PathBuf,
    /// Its content.
    pub list: DenyList,
}

/// A callers file as read at startup.
#[derive(Clone, Debug)]
pub struct CallersFile {
    /// The file. It is reloaded when it changes.
    pub path: PathBuf,
    /// Its content.
    pub callers: Callers,
}

impl AccessConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let callers = reader.optional("TENANT_AUTH_CALLERS_FILE", |path| {
            let path = PathBuf::from(path);
            read_callers(&path).map(|callers| CallersFile { path, callers })
        });
        let denied = reader.optional("TENANT_AUTH_DENY_FILE", |path| {
            let path = PathBuf::from(path);
            read_deny_list(&path).map(|list| DenyFile { path, list })
        });
        Some(Self { callers: callers?, deny_list: denied? })
    }
}

/// Reads a deny list from a file.
///
/// # Errors
/// The problem with the file, with the line number if known.
pub fn read_deny_list(path: &Path) -> Result<DenyList, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    DenyList::parse(&text).map_err(|error| format!("{shown}: {error}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallersDocument {
    #[serde(default, rename = "caller")]
    callers: Vec<CallerTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallerTable {
    name: String,
    roles: Vec<String>,
    // Any TOML value: serde's type error would quote the value, which may be a token put there by mistake.
    token_sha256: Option<toml::Value>,
    #[serde(default)]
    dns: Vec<String>,
    #[serde(default)]
    uri: Vec<String>,
}

/// Reads a callers file.
///
/// # Errors
/// The problem with the file, with the line number if known.
pub fn read_callers(path: &Path) -> Result<Callers, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    parse_callers(&text).map_err(|error| format!("invalid callers file {shown}: {error}"))
}

fn parse_callers(text: &str) -> Result<Callers, String> {
    let file: CallersDocument = toml::from_str(text).map_err(|error| describe_toml_error(&error, text))?;
    let entries = file.callers.into_iter().map(caller_entry).collect::<Result<_, _>>()?;
    Callers::new(entries).map_err(|error| error.to_string())
}

/// Describes a TOML error by its line number. The line itself is left out, because it may contain a token.
fn describe_toml_error(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{}", line.unwrap_or_default(), strip_values(error.message()))
}

/// Keeps only what serde expected. The value that serde found comes before it in the message.
fn strip_values(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if message.starts_with("missing field ") => message.to_owned(),
        None => "invalid TOML".to_owned(),
    }
}

fn caller_entry(entry: CallerTable) -> Result<CallerEntry, String> {
    let name = entry.name;
    let role = |text: &String| {
        let known: Vec<_> = Role::ALL.into_iter().map(Role::as_str).collect();
        Role::parse(text)
            .ok_or_else(|| format!("caller {name:?}: unknown role; the roles are {}", known.join(", ")))
    };
    let roles = entry.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    let tokens = token_hashes(entry.token_sha256).ok_or_else(|| {
        format!("caller {name:?}: token_sha256 must be a list of strings of 64 hexadecimal digits")
    })?;
    Ok(CallerEntry { roles: Roles::of(&roles), tokens, dns: entry.dns, uris: entry.uri, name })
}

fn token_hashes(value: Option<toml::Value>) -> Option<Vec<TokenHash>> {
    match value {
        None => Some(Vec::new()),
        Some(toml::Value::Array(hashes)) => {
            hashes.iter().map(|hash| hash.as_str().and_then(TokenHash::parse)).collect()
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Callers, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("callers.toml");
        fs::write(&path, text).unwrap();
        read_callers(&path)
    }

    #[test]
    fn example_callers_file_is_valid() {
        let example = include_str!("../../../deploy/config/callers.toml");
        assert_eq!(read(example).unwrap().count(), 4);
    }

    #[test]
    fn callers_file_errors_are_named() {
        let assert_error = |text: &str, expected: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains("callers.toml") && error.contains(expected), "{error}");
        };
        assert_error("", "names no caller");
        assert_error(
            "[[caller]]\nname = 'a'\nroles = ['king']\ndns = ['x']",
            "the roles are validator, proxy, sessions, meter",
        );
        assert_error(
            "[[caller]]\nname = 'a'\nroles = ['meter']\ntoken_sha256 = ['secret']",
            "64 hexadecimal digits",
        );
        assert_error("[[caller]]\nname = 'a'\nroles = []\ndns = ['x']", "has no role");
        assert_error("[[caller]]\nname = 'a'\nrole = ['meter']", "line 3");
    }

    #[test]
    fn misplaced_token_is_not_shown() {
        for line in [
            "token_sha256 = ['tac_secret']",
            "token_sha256 = 'tac_secret'",
            "token_sha256 = [['tac_secret']]",
            "token_sha256 = [tac_secret]",
            "token_sha256 = tac_secret",
            "token_sha256 = ['tac_secret",
            "token = 'tac_secret'",
            "token_sha256 = []\ntoken_sha256 = ['tac_secret']",
        ] {
            let error = read(&format!("[[caller]]\nname = 'a'\nroles = ['meter']\n{line}")).unwrap_err();
            assert!(!error.contains("tac_secret"), "{error}");
            assert!(error.contains("caller \"a\": ") || error.contains("line "), "{error}");
        }
    }
}
