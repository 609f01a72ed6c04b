//! Format and hashing of keys.

use std::{fs, sync::Arc};

use zeroize::Zeroizing;

use super::reader::ConfigReader;
use crate::domain::key::{KeyFormat, Peppers};

/// Format and hashing of keys.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// `TENANT_AUTH_KEY_PREFIX`: prefix of issued keys. Default `ta`. Keys issued under another prefix, or imported,
    /// stay valid.
    pub format: KeyFormat,
    /// `TENANT_AUTH_PEPPER_FILE`: a file with one line `issue <id> <secret>`, and during a rotation a second line
    /// `accept <id> <secret>`. Default none: keys are stored as plain SHA-256.
    pub peppers: Arc<Peppers>,
}

impl KeysConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let format = reader.value("TENANT_AUTH_KEY_PREFIX", "ta", KeyFormat::new);
        let peppers = reader.optional("TENANT_AUTH_PEPPER_FILE", |path| {
            let text = fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| format!("cannot read {path}: {error}"))?;
            let peppers = Peppers::parse(&text).map_err(|error| format!("{path}: {error}"))?;
            Ok::<_, String>(peppers.with_file(path))
        });
        Some(Self { format: format?, peppers: Arc::new(peppers?.unwrap_or_default()) })
    }
}
