//! What a proxy requires of the requests on one of its routes.

use std::{borrow::Cow, fmt};

use arrayvec::ArrayVec;

use crate::domain::{
    principal_token::MAX_AUDIENCE_LEN,
    scope::{InvalidScope, ScopeSet},
};

/// Maximum cost of a request.
const MAX_COST: u32 = 1_000_000;

/// The settings of a route, which come from the configuration of the proxy and never from a customer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// Scopes that the key must have.
    pub(super) required_scopes: ScopeSet,
    /// The audience of the principal token; without one, no token is signed.
    pub(super) audience: Option<Cow<'a, str>>,
    /// The cost of the request, for later filters of the proxy.
    pub(super) cost: Option<u32>,
    /// Whether a CORS preflight without a key is admitted, without an identity.
    pub(super) admits_preflight: bool,
}

/// The settings.
const SETTINGS: [&str; 4] = ["scopes", "audience", "cost", "preflight"];

/// A setting of a route is invalid: a mistake of the operator of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidRoute {
    /// The setting. One that resembles no setting is not repeated: a proxy may pass on what a customer has written, even a key.
    pub(super) setting: String,
    /// What is wrong. It completes the sentence "the setting …".
    pub(super) problem: String,
}

impl fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

impl<'a> Route<'a> {
    /// Parses settings: `scopes` (separated by commas or spaces), `audience`, `cost`, and `preflight=pass`.
    ///
    /// # Errors
    /// [`InvalidRoute`] for the first setting that is unknown or invalid. An unknown one is not ignored: a misspelt `scopes`
    /// would admit every key.
    pub(super) fn parse(
        settings: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Self, InvalidRoute> {
        let mut route = Self::default();
        let mut seen = [false; SETTINGS.len()];
        for (setting, value) in settings {
            let invalid = |problem: String| InvalidRoute { setting: displayable(&setting), problem };
            let Some(index) = SETTINGS.iter().position(|known| *known == setting) else {
                return Err(invalid(format!("is not a setting: use {}", SETTINGS.join(", "))));
            };
            if std::mem::replace(&mut seen[index], true) {
                return Err(invalid("must occur once".to_owned()));
            }
            match SETTINGS[index] {
                "scopes" => {
                    // On the stack: a cache hit allocates only its answer.
                    let mut names = ArrayVec::<_, { ScopeSet::MAX_SCOPES }>::new();
                    for name in value.split([',', ' ']).filter(|name| !name.is_empty()) {
                        names.try_push(name).map_err(|_| invalid(InvalidScope::TooMany.to_string()))?;
                    }
                    // Most likely a variable of the proxy without a value.
                    if names.is_empty() {
                        return Err(invalid(
                            "must name a scope; leave the setting out if none is required".to_owned(),
                        ));
                    }
                    route.required_scopes = ScopeSet::parse(&mut names)
                        .map_err(|error| invalid(format!("each scope {error}")))?;
                }
                "audience" => {
                    if !(1..=MAX_AUDIENCE_LEN).contains(&value.len()) || !value.bytes().all(is_audience_byte)
                    {
                        return Err(invalid(format!(
                            "must have 1 to {MAX_AUDIENCE_LEN} characters of A-Z a-z 0-9 - . _ ~ : /"
                        )));
                    }
                    route.audience = Some(value);
                }
                "cost" => {
                    let cost = value.parse().ok().filter(|cost| *cost <= MAX_COST);
                    route.cost = Some(
                        cost.ok_or_else(|| invalid(format!("must be an integer from 0 to {MAX_COST}")))?,
                    );
                }
                _ if value == "pass" => route.admits_preflight = true,
                _ => return Err(invalid("must be pass, or left out".to_owned())),
            }
        }
        Ok(route)
    }
}

/// Those of a URI without `?`, `&`, `=` and `;`, which are more likely a mistake.
fn is_audience_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte)
}

/// Returns a setting, if it is one or resembles one.
fn displayable(setting: &str) -> String {
    const MAX_TYPING_ERRORS: usize = 3;
    let resembles = |known: &&str| {
        setting.len() <= known.len() + MAX_TYPING_ERRORS
            && setting.is_ascii()
            && strsim::levenshtein(known, &setting.to_ascii_lowercase()) <= MAX_TYPING_ERRORS
    };
    if SETTINGS.iter().any(|known| resembles(&known)) {
        setting.escape_default().to_string()
    } else {
        "another one".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&'static str, &'static str)]) -> Result<Route<'static>, String> {
        let settings = settings.iter().map(|(setting, value)| (Cow::from(*setting), Cow::from(*value)));
        Route::parse(settings).map_err(|error| error.to_string())
    }

    #[test]
    fn route_settings_are_parsed() {
        let route =
            parse(&[("scopes", "b:w, a:r"), ("audience", "billing"), ("cost", "3"), ("preflight", "pass")]);
        let route = route.unwrap();
        assert_eq!(route.required_scopes.iter().collect::<Vec<_>>(), ["a:r", "b:w"]);
        assert_eq!(
            (route.audience.as_deref(), route.cost, route.admits_preflight),
            (Some("billing"), Some(3), true)
        );
        assert_eq!(parse(&[]), Ok(Route::default()));
    }

    #[test]
    fn invalid_route_setting_is_named_and_never_ignored() {
        for (setting, value) in [
            ("scope", "a"),
            ("Scopes", "a"),
            ("scopes", "A"),
            ("scopes", ""),
            ("scopes", ", "),
            ("scopes", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"),
            ("audience", ""),
            ("audience", "two words"),
            ("audience", "app;scopes=a"),
            ("cost", "-1"),
            ("cost", "1000001"),
            ("preflight", "yes"),
        ] {
            let error = parse(&[(setting, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{setting}: ")), "{error}");
        }
        for setting in ["ta_bareparamsecret", "", "sco\u{e9}s\n", "x"] {
            let error = parse(&[(setting, "a")]).unwrap_err();
            assert_eq!(error, "another one: is not a setting: use scopes, audience, cost, preflight");
        }
        assert_eq!(parse(&[("scopes", "a"), ("scopes", "b")]).unwrap_err(), "scopes: must occur once");
    }
}
