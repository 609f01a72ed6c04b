//! Reads variables and collects every problem.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

/// Prefix of all variables of the service.
const VARIABLE_PREFIX: &str = "TENANT_AUTH_";
/// Parts of the variables that Kubernetes sets in every container for a Service called tenant-auth or
/// tenant-auth-svc: `TENANT_AUTH_SERVICE_HOST`, `TENANT_AUTH_PORT_50051_TCP_ADDR` and similar. No variable of the
/// service contains such a part.
const KUBERNETES_PARTS: [&str; 2] = ["_SERVICE_HOST", "_PORT"];
/// Variables of the OpenTelemetry specification that the service reads. They are checked only if an OTLP endpoint is
/// configured.
pub(super) const OTEL_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
pub(super) const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
pub(super) const OTEL_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// Variables of OpenSSL that the database's HTTP client reads: the roots that the system trusts.
pub(super) const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
pub(super) const SSL_CERT_DIR: &str = "SSL_CERT_DIR";
const FOREIGN_VARIABLES: [&str; 5] =
    [OTEL_HEADERS, OTEL_SERVICE_NAME, OTEL_ATTRIBUTES, SSL_CERT_FILE, SSL_CERT_DIR];
/// Variables of the test suite.
const TEST_PREFIX: &str = "TENANT_AUTH_TEST_";

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The value was not set.
    Default,
    /// An environment variable.
    Environment,
    /// A command-line flag.
    Flag,
}

impl Origin {
    /// For display.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

/// The settings that were given, by variable.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, RawSetting>);

#[derive(Clone, Debug)]
struct RawSetting {
    value: String,
    origin: Origin,
    /// The option by which messages name the setting, if it was not given as a variable.
    option: Option<&'static str>,
}

impl Settings {
    /// Reads the variables of the environment that concern the service. An empty variable counts as unset: that is
    /// how a deployment file says "not set".
    #[must_use]
    pub fn from_environment() -> Self {
        let mut settings = Self::default();
        for (name, value) in std::env::vars_os() {
            // A value that is not UTF-8 fails in its parser; it must not be ignored.
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy().into_owned());
            if (name.starts_with(VARIABLE_PREFIX) || FOREIGN_VARIABLES.contains(&&*name))
                && !value.trim().is_empty()
            {
                let setting = RawSetting { value, origin: Origin::Environment, option: None };
                settings.0.insert(name.into_owned(), setting);
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

    /// Sets a value as a flag does.
    #[must_use]
    pub fn with_flag(mut self, variable: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            self.0.insert(variable.to_owned(), RawSetting { value, origin: Origin::Flag, option: None });
        }
        self
    }

    /// Sets a value by a command-line option. Messages name the option.
    #[must_use]
    pub fn with_option(mut self, option: &'static str, variable: &str, value: Option<String>) -> Self {
        if let Some(value) = value {
            let setting = RawSetting { value, origin: Origin::Flag, option: Some(option) };
            self.0.insert(variable.to_owned(), setting);
        }
        self
    }
}

/// A variable and the problem with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable, or the option that was given in its place.
    pub variable: String,
    /// The problem with the value, or a suggestion for an unknown variable.
    pub message: String,
    /// Whether no such variable exists.
    pub is_unknown: bool,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, message, is_unknown } = self;
        match is_unknown {
            true => write!(f, "unknown variable {variable}; {message}"),
            false => write!(f, "{variable}: {message}"),
        }
    }
}

/// A variable and its effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub variable: String,
    /// The value. Never a secret: secrets come from files, and this is the file's path.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Reads values one by one.
#[derive(Debug)]
pub struct ConfigReader {
    settings: Settings,
    /// The command-line options that were given, by variable.
    options: BTreeMap<String, &'static str>,
    resolved: Vec<Setting>,
    problems: Vec<Problem>,
}

impl ConfigReader {
    /// Starts to read the given settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let option = |(variable, setting): (&String, &RawSetting)| Some((variable.clone(), setting.option?));
        let options = settings.0.iter().filter_map(option).collect();
        Self { settings, options, resolved: Vec::new(), problems: Vec::new() }
    }

    /// Reads a value, or its default. `None` after a problem, which is recorded.
    pub fn value<T, E: Display>(
        &mut self,
        variable: &str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (value, origin) = self.take(variable).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        self.parse_value(variable, value, origin, parse)
    }

    /// Reads an optional value: the inner `None` means unset. The outer `None` means a problem, which is recorded.
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

    /// Reads an optional value that is never displayed.
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

    /// Reads a required value; `hint` describes it if it is missing.
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

    /// Records a problem with a value.
    pub fn report_problem(&mut self, variable: &str, message: impl Into<String>) {
        let name = self.options.get(variable).copied().unwrap_or(variable);
        self.problems.push(Problem { variable: name.to_owned(), message: message.into(), is_unknown: false });
    }

    /// Returns the name by which messages call a setting: the option that was given, or the variable.
    #[must_use]
    pub fn given_name(&self, variable: &'static str) -> &'static str {
        self.options.get(variable).copied().unwrap_or(variable)
    }

    /// Finishes: returns the effective values, or every problem. A variable that was not read is a problem, because
    /// it is most likely misspelt.
    ///
    /// # Errors
    /// Every problem recorded.
    pub fn finish(mut self) -> Result<Vec<Setting>, Vec<Problem>> {
        let known: Vec<_> = self.resolved.iter().map(|setting| setting.variable.clone()).collect();
        let is_ours = |name: &String| {
            !name.starts_with(TEST_PREFIX) && !KUBERNETES_PARTS.iter().any(|part| name.contains(part))
        };
        let unknown: Vec<_> = self.settings.0.into_keys().filter(is_ours).collect();
        for variable in unknown {
            let nearest = known.iter().min_by_key(|known| strsim::levenshtein(known, &variable));
            let nearest = nearest.map_or("", String::as_str);
            let message = format!("did you mean {nearest}?");
            self.problems.push(Problem { variable, message, is_unknown: true });
        }
        if self.problems.is_empty() { Ok(self.resolved) } else { Err(self.problems) }
    }

    fn take(&mut self, variable: &str) -> Option<(String, Origin)> {
        let RawSetting { value, origin, .. } = self.settings.0.remove(variable)?;
        // An empty option counts as unset, even if the variable is set.
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
