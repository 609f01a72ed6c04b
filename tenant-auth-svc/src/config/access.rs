//! Who may call.

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

/// Who may call.
#[derive(Clone, Debug)]
pub struct AccessConfig {
    /// `TENANT_AUTH_CALLERS_FILE`: a TOML file with one `[[caller]]` for each service that may call. Default none:
    /// everybody who can connect may do everything.
    pub callers: Option<CallersFile>,
    /// `TENANT_AUTH_DENY_FILE`: a file with keys and tenants that are denied whatever the database says, a line each: a key id,
    /// `tenant:<id>` or `sha256:<hex>`. Default none.
    pub deny_list: Option<DenyFile>,
}

/// A deny list, as it was at the start.
#[derive(Clone, Debug)]
pub struct DenyFile {
    /// The file. It is read again when it changes.
    pub path: PathBuf,
    /// What was in it.
    pub list: DenyList,
}

/// A file of callers, as it was at the start.
#[derive(Clone, Debug)]
pub struct CallersFile {
    /// The file. It is read again when it changes.
    pub path: PathBuf,
    /// Who was in it.
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

/// Reads a deny list.
///
/// # Errors
/// What is wrong with it, with the line where that is known; completes the sentence "the value …".
pub fn read_deny_list(path: &Path) -> Result<DenyList, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {shown}: {error}"))?;
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
    // Any value: what serde says of a wrong one would show it, and it may be the token, put there by mistake.
    token_sha256: Option<toml::Value>,
    #[serde(default)]
    dns: Vec<String>,
    #[serde(default)]
    uri: Vec<String>,
}

/// Reads a file of callers.
///
/// # Errors
/// What is wrong with it, with the line where that is known; completes the sentence "the value …".
pub fn read_callers(path: &Path) -> Result<Callers, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {shown}: {error}"))?;
    parse_callers(&text).map_err(|error| format!("is no list of callers: {shown}: {error}"))
}

fn parse_callers(text: &str) -> Result<Callers, String> {
    let file: CallersDocument = toml::from_str(text).map_err(|error| describe_toml_error(&error, text))?;
    let entries = file.callers.into_iter().map(caller_entry).collect::<Result<_, _>>()?;
    Callers::new(entries).map_err(|error| error.to_string())
}

/// Without the line itself, which the error would show: a token may be in it.
fn describe_toml_error(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{}", line.unwrap_or_default(), strip_values(error.message()))
}

/// What was expected: serde says it last, after what was found.
fn strip_values(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None if message.starts_with("missing field ") => message.to_owned(),
        None => "is no TOML".to_owned(),
    }
}

fn caller_entry(entry: CallerTable) -> Result<CallerEntry, String> {
    let name = entry.name;
    let role = |text: &String| {
        let known: Vec<_> = Role::ALL.into_iter().map(Role::as_str).collect();
        Role::parse(text).ok_or_else(|| {
            format!("the caller {name} has a role that is none: there are only {}", known.join(", "))
        })
    };
    let roles = entry.roles.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    let tokens = token_hashes(entry.token_sha256).ok_or_else(|| {
        format!("the caller {name} has a token_sha256 that is no list of 64 hexadecimal digits each")
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
        let wrong = |text: &str, says: &str| {
            let error = read(text).unwrap_err();
            assert!(error.contains("callers.toml") && error.contains(says), "{error}");
        };
        wrong("", "names no caller");
        wrong("[[caller]]\nname = 'a'\nroles = ['king']\ndns = ['x']", "only validator, sessions, meter");
        wrong(
            "[[caller]]\nname = 'a'\nroles = ['meter']\ntoken_sha256 = ['secret']",
            "64 hexadecimal digits",
        );
        wrong("[[caller]]\nname = 'a'\nroles = []\ndns = ['x']", "has no role");
        wrong("[[caller]]\nname = 'a'\nrole = ['meter']", "line 3");
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
            assert!(error.contains("the caller a ") || error.contains("line "), "{error}");
        }
    }
}
