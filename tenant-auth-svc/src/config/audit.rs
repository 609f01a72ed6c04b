//! Copy of the audit log to a file.

use std::path::PathBuf;

use super::reader::ConfigReader;

/// Copy of the audit log to a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditConfig {
    /// `TENANT_AUTH_AUDIT_FILE`: the absolute path of a file to which every entry of the audit log is appended, one
    /// JSON object per line. Unset: no copy. The position is kept in a second file with the suffix `.position` in the
    /// same directory. The directory must exist and be writable by the service.
    pub file: Option<PathBuf>,
}

impl AuditConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        Some(Self { file: reader.optional("TENANT_AUTH_AUDIT_FILE", parse_file_path)? })
    }
}

fn parse_file_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    // A relative path would start a new file whenever the service is started in another directory.
    if path.is_absolute() && path.file_name().is_some() && !text.ends_with('/') {
        Ok(path)
    } else {
        Err(format!(
            "must be the absolute path of a file, such as /var/lib/tenant-auth/audit.jsonl, not {text:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn read(value: Option<&str>) -> Result<AuditConfig, String> {
        let settings = Settings::default().with_flag("TENANT_AUTH_AUDIT_FILE", value.map(str::to_owned));
        let mut reader = ConfigReader::new(settings);
        let config = AuditConfig::read(&mut reader);
        reader.finish().map_err(|problems| problems[0].to_string()).map(|_| config.unwrap())
    }

    #[test]
    fn audit_file_path_must_be_absolute() {
        assert_eq!(read(None), Ok(AuditConfig::default()));
        assert_eq!(read(Some("/a/b.jsonl")).unwrap().file, Some(PathBuf::from("/a/b.jsonl")));
        for wrong in ["audit.jsonl", "./a", "/", "/a/", "/a/.."] {
            let problem = read(Some(wrong)).unwrap_err();
            assert!(
                problem.contains("TENANT_AUTH_AUDIT_FILE") && problem.contains("absolute path"),
                "{problem}"
            );
        }
    }
}
