//! One key to take over, and what can be wrong with it.

use std::fmt;

use tenant_auth_client::proto;

use super::text::{InvalidText, KeyName, PrefixHint};
use crate::time;

/// What a row may hold.
pub(super) const COLUMNS: [&str; 7] =
    ["tenant_id", "sha256", "name", "prefix_hint", "scopes", "created_at", "expires_at"];

const MAX_ID_LEN: usize = 64;
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// A checked row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Where it stands in the file, from 1.
    pub(crate) line: u64,
    pub(crate) key: proto::ImportKey,
}

/// What is wrong where. Shows itself as `line: column: problem`.
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

    /// With the row as a whole.
    pub(super) fn for_row(line: u64, text: impl Into<String>) -> Self {
        Self::new(line, "", text)
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Where in a file of this name: `keys.csv:7: sha256`.
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

/// A row as text; what is absent is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) sha256: &'a str,
    pub(super) name: &'a str,
    pub(super) prefix_hint: &'a str,
    pub(super) scopes: Vec<&'a str>,
    pub(super) created_at: &'a str,
    pub(super) expires_at: &'a str,
}

impl<'a> Cells<'a> {
    /// Puts a text into its column; whether there is such a column.
    pub(super) fn set(&mut self, column: &str, text: &'a str) -> bool {
        match column {
            "tenant_id" => self.tenant_id = text,
            "sha256" => self.sha256 = text,
            "name" => self.name = text,
            "prefix_hint" => self.prefix_hint = text,
            "scopes" => self.scopes = split_scopes(text),
            "created_at" => self.created_at = text,
            "expires_at" => self.expires_at = text,
            _ => return false,
        }
        true
    }

    /// The row, or everything that is wrong with it.
    pub(super) fn check(&self, line: u64, default_tenant: &str) -> Result<Row, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut note = |column, text: Result<(), String>| {
            problems.extend(text.err().map(|text| Problem::new(line, column, text)));
        };
        let tenant_id = if self.tenant_id.is_empty() { default_tenant } else { self.tenant_id };
        note("tenant_id", check_id(tenant_id));
        let sha256 = hex::decode(self.sha256).ok().filter(|digest| digest.len() == 32);
        note("sha256", sha256.as_ref().map(|_| ()).ok_or_else(|| hash_problem(self.sha256)));
        let fit = |parsed: Result<(), InvalidText>| parsed.map_err(|error| error.to_string());
        note("name", fit(KeyName::parse(self.name).map(drop)));
        note("prefix_hint", fit(PrefixHint::parse(self.prefix_hint).map(drop)));
        note("scopes", check_scopes(&self.scopes));
        let mut moment = |column, text: &str| {
            let moment = (!text.is_empty()).then(|| time::parse_moment(text));
            let moment = moment.transpose().map_err(str::to_owned);
            note(column, moment.as_ref().map(|_| ()).map_err(Clone::clone));
            moment.ok().flatten().map(prost_types::Timestamp::from)
        };
        let created_at = moment("created_at", self.created_at);
        let expires_at = moment("expires_at", self.expires_at);
        match sha256 {
            Some(sha256) if problems.is_empty() => {
                let key = proto::ImportKey {
                    tenant_id: tenant_id.to_owned(),
                    sha256,
                    name: self.name.to_owned(),
                    prefix_hint: self.prefix_hint.to_owned(),
                    scopes: self.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                    created_at,
                    expires_at,
                };
                Ok(Row { line, key })
            }
            _ => Err(problems),
        }
    }
}

/// Why a column is not taken.
pub(super) fn unknown_column(name: &str) -> String {
    const PLAINTEXT: [&str; 6] = ["key", "api_key", "apikey", "plaintext", "secret", "token"];
    if PLAINTEXT.contains(&name.to_ascii_lowercase().as_str()) {
        return "keys are never imported in plaintext; `tenantctl key hash` makes the sha256 of one"
            .to_owned();
    }
    format!("has a column other than {}", COLUMNS.join(", "))
}

fn split_scopes(text: &str) -> Vec<&str> {
    let separator = |c: char| c == ';' || c.is_whitespace();
    text.split(separator).filter(|scope| !scope.is_empty()).collect()
}

fn hash_problem(text: &str) -> String {
    let what = if text.is_empty() { "is missing" } else { "must be 64 hex digits" };
    format!("{what}; `tenantctl key hash` makes it of a key")
}

fn check_id(id: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if id.is_empty() {
        Err("is missing; name it here or with --tenant".to_owned())
    } else if id.len() > MAX_ID_LEN {
        Err(format!("must have at most {MAX_ID_LEN} characters"))
    } else if !id.bytes().all(allowed) {
        Err("may hold only A-Z a-z 0-9 _ and -".to_owned())
    } else {
        Ok(())
    }
}

fn check_scopes(scopes: &[&str]) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b":._-/*".contains(&b);
    if scopes.len() > MAX_SCOPES {
        return Err(format!("must be at most {MAX_SCOPES}"));
    }
    for (index, scope) in scopes.iter().enumerate() {
        let number = index + 1;
        if scope.is_empty() || scope.len() > MAX_SCOPE_LEN {
            return Err(format!("no. {number} must have 1 to {MAX_SCOPE_LEN} characters"));
        }
        if !scope.bytes().all(allowed) {
            return Err(format!("no. {number} may hold only a-z 0-9 : . _ - / and *"));
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
        };
        let expected = [
            "7: tenant_id: may hold only A-Z a-z 0-9 _ and -",
            "7: sha256: must be 64 hex digits; `tenantctl key hash` makes it of a key",
            "7: name: must have at most 64 characters, and 256 bytes of UTF-8",
            "7: prefix_hint: must not have U+0009, a control character, as character 4: remove it",
            "7: scopes: must be at most 32",
            "7: created_at: must be RFC 3339, such as 2030-01-31T00:00:00Z",
            "7: expires_at: must be RFC 3339, such as 2030-01-31T00:00:00Z",
        ];
        assert_eq!(problems(&cells), expected);
    }

    #[test]
    fn only_hash_and_tenant_are_required() {
        let sha256 = "Ab".repeat(32);
        let cells = Cells { sha256: &sha256, ..Default::default() };
        assert_eq!(problems(&cells), ["7: tenant_id: is missing; name it here or with --tenant"]);
        let row = cells.check(7, "acme").unwrap();
        assert_eq!((row.key.tenant_id.as_str(), row.key.sha256), ("acme", vec![0xab; 32]));
    }

    #[test]
    fn invalid_scope_is_numbered_not_shown() {
        let cells = Cells { scopes: split_scopes("a:read;Bad"), ..Default::default() };
        let told = problems(&cells);
        assert_eq!(told[2], "7: scopes: no. 2 may hold only a-z 0-9 : . _ - / and *");
    }

    #[test]
    fn plaintext_columns_are_rejected() {
        assert!(unknown_column("API_KEY").contains("never imported in plaintext"));
        assert!(unknown_column("colour").contains("other than tenant_id"));
    }
}
