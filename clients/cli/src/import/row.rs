//! One key to import, and its checks.

use std::fmt;

use tenant_auth_client::proto;

use super::{
    digest, key_text,
    network::{AllowedNetworks, InvalidNetwork},
    text::{InvalidText, KeyName, PrefixHint},
};
use crate::time;

/// The columns of a row.
pub(super) const COLUMNS: [&str; 8] =
    ["tenant_id", "sha256", "name", "prefix_hint", "scopes", "created_at", "expires_at", "allowed_networks"];

const MAX_ID_LEN: usize = 64;
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// A checked row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The line in the file, from 1.
    pub(crate) line: u64,
    pub(crate) key: proto::ImportKey,
}

/// A problem of a row or a column. Displayed as `line: column: problem`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    line: u64,
    column: &'static str,
    text: String,
}

impl Problem {
    pub(crate) fn new(line: u64, column: &'static str, text: impl Into<String>) -> Self {
        Self { line, column, text: text.into() }
    }

    /// Creates a problem of the whole row.
    pub(super) fn for_row(line: u64, text: impl Into<String>) -> Self {
        Self::new(line, "", text)
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Returns the location in a file of this name: `keys.csv:7: sha256`.
    pub(crate) fn location(&self, file: &str) -> String {
        let Self { line, column, .. } = self;
        if column.is_empty() { format!("{file}:{line}") } else { format!("{file}:{line}: {column}") }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.line)?;
        if !self.column.is_empty() {
            write!(f, "{}: ", self.column)?;
        }
        f.write_str(&self.text)
    }
}

/// A row as text; missing values are empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) sha256: &'a str,
    pub(super) name: &'a str,
    pub(super) prefix_hint: &'a str,
    pub(super) scopes: Vec<&'a str>,
    pub(super) created_at: &'a str,
    pub(super) expires_at: &'a str,
    pub(super) allowed_networks: Vec<&'a str>,
}

impl<'a> Cells<'a> {
    /// Sets the text of a column. Returns whether the column exists.
    pub(super) fn set(&mut self, column: &str, text: &'a str) -> bool {
        match column {
            "tenant_id" => self.tenant_id = text,
            "sha256" => self.sha256 = text,
            "name" => self.name = text,
            "prefix_hint" => self.prefix_hint = text,
            "scopes" => self.scopes = split_list(text),
            "allowed_networks" => self.allowed_networks = split_list(text),
            "created_at" => self.created_at = text,
            "expires_at" => self.expires_at = text,
            _ => return false,
        }
        true
    }

    /// Returns the row, or all its problems.
    pub(super) fn check(&self, line: u64, default_tenant: &str) -> Result<Row, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut report = |column, text: Result<(), String>| {
            problems.extend(text.err().map(|text| Problem::new(line, column, text)));
        };
        let tenant_id = if self.tenant_id.is_empty() { default_tenant } else { self.tenant_id };
        report("tenant_id", check_id(tenant_id));
        let sha256 = digest::check(self.sha256, self.prefix_hint);
        report("sha256", sha256.as_ref().map(drop).map_err(Clone::clone));
        let checked = |parsed: Result<(), InvalidText>| parsed.map_err(|error| error.to_string());
        report("name", checked(KeyName::parse(self.name).map(drop)));
        report("prefix_hint", check_hint(self.prefix_hint));
        report("scopes", check_scopes(&self.scopes));
        report("allowed_networks", check_networks(&self.allowed_networks));
        let mut moment = |column, text: &str| {
            let moment = (!text.is_empty()).then(|| time::parse_moment(text));
            let moment = moment.transpose().map_err(str::to_owned);
            report(column, moment.as_ref().map(|_| ()).map_err(Clone::clone));
            moment.ok().flatten().map(prost_types::Timestamp::from)
        };
        let created_at = moment("created_at", self.created_at);
        let expires_at = moment("expires_at", self.expires_at);
        match sha256 {
            Ok(sha256) if problems.is_empty() => {
                let key = proto::ImportKey {
                    tenant_id: tenant_id.to_owned(),
                    sha256: sha256.to_vec(),
                    name: self.name.to_owned(),
                    prefix_hint: self.prefix_hint.to_owned(),
                    scopes: self.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                    created_at,
                    expires_at,
                    allowed_networks: self.allowed_networks.iter().map(|text| (*text).to_owned()).collect(),
                };
                Ok(Row { line, key })
            }
            _ => Err(problems),
        }
    }
}

/// Returns the column of this name, in any case and with blanks around it.
pub(super) fn known_column(name: &str) -> Option<&'static str> {
    COLUMNS.into_iter().find(|column| column.eq_ignore_ascii_case(name.trim()))
}

/// Returns the problem of an unknown column.
pub(super) fn unknown_column(name: &str) -> String {
    const PLAINTEXT: [&str; 6] = ["key", "api_key", "apikey", "plaintext", "secret", "token"];
    if PLAINTEXT.contains(&name.trim().to_ascii_lowercase().as_str()) {
        return "keys are never imported in plaintext: compute the sha256 with `tenantctl key hash`"
            .to_owned();
    }
    format!("unknown column: must be one of {}", COLUMNS.join(", "))
}

fn split_list(text: &str) -> Vec<&str> {
    let separator = |c: char| c == ';' || c.is_whitespace();
    text.split(separator).filter(|item| !item.is_empty()).collect()
}

fn check_networks(networks: &[&str]) -> Result<(), String> {
    match AllowedNetworks::parse(networks) {
        Ok(_) => Ok(()),
        Err((_, error @ InvalidNetwork::TooMany)) => Err(error.to_string()),
        Err((index, error)) => Err(format!("network {}: {error}", index + 1)),
    }
}

/// A hint shows whether its key could ever be looked up, unlike the key's hash.
fn check_hint(hint: &str) -> Result<(), String> {
    PrefixHint::parse(hint).map_err(|error| error.to_string())?;
    key_text::check_characters(hint).map_err(|error| error.to_string())
}

fn check_id(id: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if id.is_empty() {
        Err("missing: set it here or with --tenant".to_owned())
    } else if id.len() > MAX_ID_LEN || !id.bytes().all(allowed) {
        Err(format!("invalid tenant id: must be 1 to {MAX_ID_LEN} characters of A-Z a-z 0-9 _ -"))
    } else {
        Ok(())
    }
}

fn check_scopes(scopes: &[&str]) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b":._-/*".contains(&b);
    if scopes.len() > MAX_SCOPES {
        return Err(format!("must have at most {MAX_SCOPES} scopes"));
    }
    for (index, scope) in scopes.iter().enumerate() {
        let number = index + 1;
        if scope.is_empty() || scope.len() > MAX_SCOPE_LEN {
            return Err(format!(
                "scope {number}: must be 1 to {MAX_SCOPE_LEN} characters of a-z 0-9 : . _ - / *"
            ));
        }
        if !scope.bytes().all(allowed) {
            return Err(format!(
                "scope {number}: must be 1 to {MAX_SCOPE_LEN} characters of a-z 0-9 : . _ - / *"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(cells: &Cells<'_>) -> Vec<String> {
        let problems = cells.check(7, "").unwrap_err();
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn all_problems_of_a_row_are_reported() {
        let many = vec!["a"; 33];
        let name = "ü".repeat(65);
        let cells = Cells {
            tenant_id: "a b",
            sha256: "00",
            name: &name,
            prefix_hint: "tab\there",
            scopes: many,
            created_at: "yesterday",
            expires_at: "2030-01-01",
            allowed_networks: vec!["10.0.0.0/8", "10.0.0.1/8"],
        };
        let expected = [
            "7: tenant_id: invalid tenant id: must be 1 to 64 characters of A-Z a-z 0-9 _ -",
            "7: sha256: must be a SHA-256: 64 hex digits, or 43 characters of base64 or base64url, with or without a \
             final =; compute it with `tenantctl key hash`",
            "7: name: must have at most 64 characters, and 256 bytes of UTF-8",
            "7: prefix_hint: must not have U+0009, a control character, as character 4: remove it",
            "7: scopes: must have at most 32 scopes",
            "7: allowed_networks: network 2: has bits set after its prefix: write 10.0.0.0/8, or the address alone",
            "7: created_at: must be RFC 3339, such as 2030-01-31T00:00:00Z",
            "7: expires_at: must be RFC 3339, such as 2030-01-31T00:00:00Z",
        ];
        assert_eq!(problems(&cells), expected);
    }

    #[test]
    fn only_hash_and_tenant_are_required() {
        let sha256 = "Ab".repeat(32);
        let cells = Cells { sha256: &sha256, ..Default::default() };
        assert_eq!(problems(&cells), ["7: tenant_id: missing: set it here or with --tenant"]);
        let row = cells.check(7, "acme").unwrap();
        assert_eq!((row.key.tenant_id.as_str(), row.key.sha256), ("acme", vec![0xab; 32]));
    }

    #[test]
    fn invalid_scope_is_numbered_not_shown() {
        let cells = Cells { scopes: split_list("a:read;Bad"), ..Default::default() };
        let messages = problems(&cells);
        assert_eq!(messages[2], "7: scopes: scope 2: must be 1 to 64 characters of a-z 0-9 : . _ - / *");
    }

    #[test]
    fn hint_that_no_key_begins_with_is_rejected() {
        let sha256 = "00".repeat(32);
        let check =
            |prefix_hint| Cells { sha256: &sha256, prefix_hint, ..Default::default() }.check(7, "acme");
        assert!(check("sk_live_****").is_ok());
        for hint in ["sk live", "sk_live_…", "schlüssel"] {
            let problems = check(hint).unwrap_err();
            assert!(
                problems[0].text().ends_with("only printable ASCII characters, without spaces"),
                "{hint}"
            );
        }
    }

    #[test]
    fn column_names_are_read_in_any_case() {
        assert_eq!(known_column(" Tenant_ID\u{a0}"), Some("tenant_id"));
        assert_eq!(known_column("tenant id"), None);
    }

    #[test]
    fn plaintext_columns_are_rejected() {
        assert!(unknown_column("API_KEY").contains("never imported in plaintext"));
        assert!(unknown_column("colour").contains("one of tenant_id"));
    }
}
