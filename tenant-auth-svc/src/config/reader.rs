//! Reading variables, and collecting everything that is wrong with them.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

/// What all variables of the service start with.
const VARIABLE_PREFIX: &str = "TENANT_AUTH_";
/// What Kubernetes puts into every container's environment for a Service called tenant-auth or tenant-auth-svc:
/// `TENANT_AUTH_SERVICE_HOST`, `TENANT_AUTH_PORT_50051_TCP_ADDR` and the like. No variable of ours has such a part.
const KUBERNETES_PARTS: [&str; 2] = ["_SERVICE_HOST", "_PORT"];
/// Variables of OpenTelemetry's specification that are honoured here. What is wrong with them is said only where something is sent.
pub(super) const OTEL_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
pub(super) const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
pub(super) const OTEL_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Variables of OpenSSL that the HTTP client of the database honours: where the roots are that the system trusts.
pub(super) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
pub(super) const SSL_CERT_DIR: &str = "SSL_CERT_DIR";
const FOREIGN_VARIABLES: [&str; 5] =
    [OTEL_HEADERS, OTEL_SERVICE_NAME, OTEL_ATTRIBUTES, SSL_CERT_FILE, SSL_CERT_DIR];
/// For the test suite.
const TEST_PREFIX: &str = "TENANT_AUTH_TEST_";

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was not set.
    Default,
    /// A variable.
    Environment,
    /// A flag.
    Flag,
}

impl Origin {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// The values that were given, by variable.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, RawSetting>);

#[derive(Clone, Debug)]
struct RawSetting {
    value: String,
    origin: Origin,
    /// What whoever gave it calls it, where that is not the variable.
    option: Option<&'static str>,
}

impl Settings {
    /// Those of the process's environment that concern the service. An empty variable is how a deployment file says "not set".
    #[must_use]
    pub fn from_environment() -> Self {
        let mut settings = Self::default();
        for (name, value) in std::env::vars_os() {
            // What is no text is refused by whoever reads it, rather than passed over.
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy().into_owned());
            if (name.starts_with(VARIABLE_PREFIX) || FOREIGN_VARIABLES.contains(&&*name))
                && !value.trim().is_empty()
            {
                let given = RawSetting { value, origin: Origin::Environment, option: None };
                settings.0.insert(name.into_owned(), given);
            }
        }
        settings
    }

    /// Keeps only some variables.
    #[must_use]
    pub fn restricted_to(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|name, _| keep(name));
        self
    }

    /// Sets a value as a flag would.
    #[must_use]
    pub fn with_flag(mut self, variable: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            self.0.insert(variable.to_owned(), RawSetting { value, origin: Origin::Flag, option: None });
        }
        self
    }

    /// The same for an option of the command line, by whose name it is spoken of.
    #[must_use]
    pub fn with_option(mut self, option: &'static str, variable: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            let given = RawSetting { value, origin: Origin::Flag, option: Some(option) };
            self.0.insert(variable.to_owned(), given);
        }
        self
    }
}

/// A variable and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable, or the option that was given in its place.
    pub variable: String,
    /// What is wrong; completes the sentence "the value …".
    pub message: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.message)
    }
}

/// A variable and the value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub variable: String,
    /// The value. Never a secret: those come from files, and this is the file's name.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Reads values one after the other.
#[derive(Debug)]
pub struct ConfigReader {
    settings: Settings,
    /// The options that were given, by variable.
    options: BTreeMap<String, &'static str>,
    resolved: Vec<Setting>,
    problems: Vec<Problem>,
}

impl ConfigReader {
    /// Reads from what was given.
    #[must_use]
    pub fn new(given: Settings) -> Self {
        let option = |(variable, given): (&String, &RawSetting)| Some((variable.clone(), given.option?));
        let options = given.0.iter().filter_map(option).collect();
        Self { settings: given, options, resolved: Vec::new(), problems: Vec::new() }
    }

    /// A value, or its default; `None` after noting a problem.
    pub fn value<T, E: Display>(
        &mut self,
        variable: &str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (value, origin) = self.take(variable).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        self.parse_value(variable, value, origin, parse)
    }

    /// A value that may be left out: the inner `None`. The outer `None` comes after noting a problem.
    pub fn optional<T, E: Display>(
        &mut self,
        variable: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        match self.take(variable) {
            Some((value, origin)) => self.parse_value(variable, value, origin, parse).map(Some),
            None => {
                self.record(variable, "(none)".to_owned(), Origin::Default);
                Some(None)
            }
        }
    }

    /// A value that may be left out, and is shown to nobody.
    pub fn secret<T, E: Display>(
        &mut self,
        variable: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        let Some((value, origin)) = self.take(variable) else {
            self.record(variable, "(none)".to_owned(), Origin::Default);
            return Some(None);
        };
        self.record(variable, "(set)".to_owned(), origin);
        parse(&value).map(Some).map_err(|error| self.report_problem(variable, error.to_string())).ok()
    }

    /// A value that must be given; `error_hint` tells what for.
    pub fn required<T, E: Display>(
        &mut self,
        variable: &str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match self.take(variable) {
            Some((value, origin)) => self.parse_value(variable, value, origin, parse),
            None => {
                self.report_problem(variable, format!("must be set: {hint}"));
                None
            }
        }
    }

    /// Notes that a value is wrong.
    pub fn report_problem(&mut self, variable: &str, message: impl Into<String>) {
        let name = self.options.get(variable).copied().unwrap_or(variable);
        self.problems.push(Problem { variable: name.to_owned(), message: message.into() });
    }

    /// What whoever gave a value calls it: the option, or the variable.
    #[must_use]
    pub fn given_name(&self, variable: &'static str) -> &'static str {
        self.options.get(variable).copied().unwrap_or(variable)
    }

    /// Ends the reading: the values in force, or every problem. A variable that nobody asked for is a problem: it is
    /// most likely a misspelt one.
    ///
    /// # Errors
    /// Every problem noted.
    pub fn finish(mut self) -> Result<Vec<Setting>, Vec<Problem>> {
        let known: Vec<_> = self.resolved.iter().map(|setting| setting.variable.clone()).collect();
        let ours = |name: &String| {
            !name.starts_with(TEST_PREFIX) && !KUBERNETES_PARTS.iter().any(|part| name.contains(part))
        };
        let unknown: Vec<_> = self.settings.0.into_keys().filter(ours).collect();
        for variable in unknown {
            let near = known.iter().min_by_key(|known| strsim::levenshtein(known, &variable));
            let near = near.map_or("", String::as_str);
            let message = format!("is no variable of tenant-auth; did you mean {near}?");
            self.problems.push(Problem { variable, message });
        }
        if self.problems.is_empty() { Ok(self.resolved) } else { Err(self.problems) }
    }

    fn take(&mut self, variable: &str) -> Option<(String, Origin)> {
        let RawSetting { value, origin, .. } = self.settings.0.remove(variable)?;
        // An option that is given empty says so too, against the variable.
        (!value.trim().is_empty()).then(|| (value.trim().to_owned(), origin))
    }

    fn parse_value<T, E: Display>(
        &mut self,
        variable: &str,
        value: String,
        origin: Origin,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let parsed = parse(&value);
        self.record(variable, value, origin);
        parsed.map_err(|error| self.report_problem(variable, error.to_string())).ok()
    }

    fn record(&mut self, variable: &str, value: String, origin: Origin) {
        self.resolved.push(Setting { variable: variable.to_owned(), value, origin });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse_number;

    #[test]
    fn problem_names_the_given_option() {
        let settings = Settings::default()
            .with_option("--workers", "TENANT_AUTH_WORKERS", Some("many".to_owned()))
            .with_option("--streams", "TENANT_AUTH_MAX_STREAMS", None)
            .with_flag("TENANT_AUTH_MAX_STREAMS", Some("many".to_owned()));
        let mut reader = ConfigReader::new(settings);
        for variable in ["TENANT_AUTH_WORKERS", "TENANT_AUTH_MAX_STREAMS"] {
            assert_eq!(reader.value(variable, "1", parse_number(1..=2)), None);
        }
        assert_eq!(
            (reader.given_name("TENANT_AUTH_WORKERS"), reader.given_name("TENANT_AUTH_LOG")),
            ("--workers", "TENANT_AUTH_LOG")
        );
        let names: Vec<_> =
            reader.finish().unwrap_err().into_iter().map(|problem| problem.variable).collect();
        assert_eq!(names, ["--workers", "TENANT_AUTH_MAX_STREAMS"]);
    }
}
