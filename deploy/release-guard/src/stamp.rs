//! The stamp of a build.

use serde::Deserialize;
use serde_json::Value;

/// The commit, the branch, and whether files were changed, as stamped into a binary or into an image's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStamp {
    /// The full commit; empty when the build does not know.
    pub commit: String,
    /// The branch; empty when the build does not know.
    pub branch: String,
    /// Whether tracked files differed from the commit.
    pub dirty: bool,
}

/// The fields as `--version` and `GetServerInfo` name them.
#[derive(Deserialize)]
struct VersionFields {
    commit: String,
    branch: String,
    dirty: bool,
}

/// The labels of the image.
#[derive(Deserialize)]
struct ImageLabels {
    #[serde(rename = "org.opencontainers.image.revision")]
    commit: String,
    #[serde(rename = "tenant-auth.branch")]
    branch: String,
    #[serde(rename = "tenant-auth.dirty")]
    dirty: String,
}

impl BuildStamp {
    /// Reads what `tenant-auth-svc --version` prints: `commit`, `branch` and `dirty`, each on a line of its own.
    ///
    /// # Errors
    /// A sentence that names the missing part. An incomplete stamp never counts as clean.
    pub fn from_version_output(text: &str) -> Result<Self, String> {
        let field = |name: &str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
            found
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| format!("the line \"{name}: …\" is missing"))
        };
        Ok(Self { commit: field("commit")?, branch: field("branch")?, dirty: parse_flag(&field("dirty")?)? })
    }

    /// Parses JSON: the labels of an image (`docker inspect --format '{{json .Config.Labels}}'`), a whole
    /// `docker inspect`, or an object with `commit`, `branch` and `dirty`.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let whole = value.as_array().and_then(|images| images.first()).unwrap_or(&value);
        let labels = whole.pointer("/Config/Labels").unwrap_or(whole);
        if let Ok(ImageLabels { commit, branch, dirty }) = ImageLabels::deserialize(labels) {
            return Ok(Self { commit, branch, dirty: parse_flag(&dirty)? });
        }
        let VersionFields { commit, branch, dirty } =
            VersionFields::deserialize(labels).map_err(|error| error.to_string())?;
        Ok(Self { commit, branch, dirty })
    }
}

fn parse_flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("dirty is {text:?}, not true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(dirty: bool) -> BuildStamp {
        BuildStamp { commit: "abc".to_owned(), branch: "main".to_owned(), dirty }
    }

    #[test]
    fn every_stamp_format_is_read() {
        let printed =
            "tenant-auth-svc 0.1.0\ncommit: abc\nbranch: main\ndirty: true\nbuilt: 2026-11-21T00:00:00Z\n";
        assert_eq!(BuildStamp::from_version_output(printed), Ok(stamp(true)));
        let info = r#"{"version":"0.1.0","commit":"abc","branch":"main","dirty":false}"#;
        assert_eq!(BuildStamp::from_json(info), Ok(stamp(false)));
        let labels = r#"{"org.opencontainers.image.revision":"abc","tenant-auth.branch":"main",
            "tenant-auth.dirty":"true","org.opencontainers.image.version":"0.1.0"}"#;
        assert_eq!(BuildStamp::from_json(labels), Ok(stamp(true)));
        assert_eq!(
            BuildStamp::from_json(&format!(r#"[{{"Id":"x","Config":{{"Labels":{labels}}}}}]"#)),
            Ok(stamp(true))
        );
    }

    #[test]
    fn incomplete_stamp_is_never_clean() {
        for text in
            ["tenant-auth-svc 0.1.0", "commit: abc\nbranch: main", "commit: abc\nbranch: main\ndirty: no"]
        {
            assert!(BuildStamp::from_version_output(text).is_err(), "{text}");
        }
        for text in ["", "{}", "null", "[]", r#"{"commit":"abc","branch":"main"}"#] {
            assert!(BuildStamp::from_json(text).is_err(), "{text}");
        }
    }
}
