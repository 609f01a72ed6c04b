//! What was given as an option and what as a variable, so that an error names the right one.

use clap::{
    ArgMatches, Command, CommandFactory as _, FromArgMatches as _, builder::Resettable, parser::ValueSource,
};

use super::Cli;

/// Options that have a variable: their id, their name, and that of the variable.
const OPTIONS: [(&str, &str, &str); 5] = [
    ("endpoint", "--endpoint", "TENANTCTL_ENDPOINT"),
    ("token_file", "--token-file", "TENANTCTL_TOKEN_FILE"),
    ("ca", "--ca", "TENANTCTL_CA_FILE"),
    ("cert", "--cert", "TENANTCTL_CERT_FILE"),
    ("cert_key", "--cert-key", "TENANTCTL_CERT_KEY_FILE"),
];

/// The options whose values came from their variables.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given([bool; OPTIONS.len()]);

impl Given {
    fn of(matches: &ArgMatches) -> Self {
        Self(OPTIONS.map(|(id, ..)| matches.value_source(id) == Some(ValueSource::EnvVariable)))
    }

    /// The name by which an option was given: its own, or that of its variable.
    pub(crate) fn name(self, option: &'static str) -> &'static str {
        let given = OPTIONS.iter().zip(self.0).find(|((_, name, _), _)| *name == option);
        given.filter(|(_, by_variable)| *by_variable).map_or(option, |((_, _, variable), _)| variable)
    }
}

impl Cli {
    /// Reads the command line, and the variables that are not empty: an empty one is not set.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = command().try_get_matches()?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.globals.given = Given::of(&matches);
        Ok(cli)
    }
}

fn command() -> Command {
    Cli::command().mut_args(|arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        if value.is_some_and(|value| value.to_string_lossy().trim().is_empty()) {
            arg.env(Resettable::Reset)
        } else {
            arg
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_with_a_variable_is_known() {
        let command = Cli::command();
        let with_variable = command.get_arguments().filter_map(|arg| {
            Some((arg.get_id().as_str(), format!("--{}", arg.get_long()?), arg.get_env()?.to_str()?))
        });
        let known = OPTIONS.map(|(id, name, variable)| (id, name.to_owned(), variable));
        assert_eq!(with_variable.collect::<Vec<_>>(), known);
    }
}
