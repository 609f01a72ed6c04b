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

/// A setting of a route is invalid: a mistake of the operator of the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidRoute {
    /// The setting. Escaped, because it may be misspelt in any way.
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
        for (setting, value) in settings {
            let invalid =
                |problem: String| InvalidRoute { setting: setting.escape_default().to_string(), problem };
            match &*setting {
                "scopes" => {
                    // On the stack: a cache hit allocates only its answer.
                    let mut names = ArrayVec::<_, { ScopeSet::MAX_SCOPES }>::new();
                    for name in value.split([',', ' ']).filter(|name| !name.is_empty()) {
                        names.try_push(name).map_err(|_| invalid(InvalidScope::TooMany.to_string()))?;
                    }
                    route.required_scopes = ScopeSet::parse(&mut names)
                        .map_err(|error| invalid(format!("each scope {error}")))?;
                }
                "audience" if (1..=MAX_AUDIENCE_LEN).contains(&value.len()) && is_graphic(&value) => {
                    route.audience = Some(value);
                }
                "audience" => {
                    return Err(invalid(format!(
                        "must have 1 to {MAX_AUDIENCE_LEN} printable ASCII characters"
                    )));
                }
                "cost" => {
                    let cost = value.parse().ok().filter(|cost| *cost <= MAX_COST);
                    route.cost = Some(
                        cost.ok_or_else(|| invalid(format!("must be an integer from 0 to {MAX_COST}")))?,
                    );
                }
                "preflight" if value == "pass" => route.admits_preflight = true,
                "preflight" => return Err(invalid("must be pass, or left out".to_owned())),
                _ => {
                    return Err(invalid(
                        "is not a setting: use scopes, audience, cost or preflight".to_owned(),
                    ));
                }
            }
        }
        Ok(route)
    }
}

fn is_graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
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
        assert_eq!(parse(&[("scopes", "")]), Ok(Route::default()));
    }

    #[test]
    fn invalid_route_setting_is_named_and_never_ignored() {
        for (setting, value) in [
            ("scope", "a"),
            ("Scopes", "a"),
            ("", ""),
            ("scopes", "A"),
            ("scopes", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"),
            ("audience", ""),
            ("audience", "two words"),
            ("cost", "-1"),
            ("cost", "1000001"),
            ("preflight", "yes"),
        ] {
            let error = parse(&[(setting, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{setting}: ")), "{error}");
        }
        let error = parse(&[("sco\u{e9}s\n", "a")]).unwrap_err();
        assert!(error.is_ascii() && !error.contains('\n'), "{error}");
    }
}
