//! Which options were set on the command line and which by environment variables, so that an error names the
//! right one.

use clap::{ArgMatches, parser::ValueSource};

/// Options that have an environment variable: id, name, variable.
pub(crate) const OPTIONS_WITH_VARIABLES: [(&str, &str, &str); 5] = [
    ("endpoint", "--endpoint", "TENANTCTL_ENDPOINT"),
    ("token_file", "--token-file", "TENANTCTL_TOKEN_FILE"),
    ("ca", "--ca", "TENANTCTL_CA_FILE"),
    ("cert", "--cert", "TENANTCTL_CERT_FILE"),
    ("cert_key", "--cert-key", "TENANTCTL_CERT_KEY_FILE"),
];

/// The options whose values came from environment variables.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OptionSources([bool; OPTIONS_WITH_VARIABLES.len()]);

impl OptionSources {
    pub(crate) fn from_matches(matches: &ArgMatches) -> Self {
        Self(
            OPTIONS_WITH_VARIABLES.map(|(id, ..)| matches.value_source(id) == Some(ValueSource::EnvVariable)),
        )
    }

    /// Returns the name by which an option was set: its own, or that of its variable.
    pub(crate) fn name(self, option: &'static str) -> &'static str {
        let entry = OPTIONS_WITH_VARIABLES.iter().zip(self.0).find(|((_, name, _), _)| *name == option);
        entry.filter(|(_, by_variable)| *by_variable).map_or(option, |((_, _, variable), _)| variable)
    }
}
