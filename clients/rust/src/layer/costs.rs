//! What a request costs, and the headers that tell a client of its limits.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::{Cost, Limits};

/// Headers of draft-ietf-httpapi-ratelimit-headers-10.
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

type CostsOf = dyn Fn(&Parts) -> Vec<Cost> + Send + Sync;

/// What requests cost.
#[derive(Clone)]
pub(crate) struct Costs(Arc<CostsOf>);

impl Costs {
    pub(crate) fn fixed(costs: impl IntoIterator<Item = Cost>) -> Self {
        let costs: Vec<_> = costs.into_iter().collect();
        Self::of(move |_| costs.clone())
    }

    pub(crate) fn of(costs: impl Fn(&Parts) -> Vec<Cost> + Send + Sync + 'static) -> Self {
        Self(Arc::new(costs))
    }

    /// Returns what a request costs. Without costs, its key is only validated.
    pub(super) fn read(&self, request: &Parts) -> Vec<Cost> {
        (self.0)(request)
    }
}

impl fmt::Debug for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Costs")
    }
}

/// Adds the headers about limits to a response: `"hourly";q=100;w=3600` and `"hourly";r=99;t=1800`. Shadow limits are not
/// named.
pub(crate) fn add_limit_headers(headers: &mut HeaderMap, limits: &Limits) {
    let (mut policies, mut states) = (Vec::new(), Vec::new());
    for limit in limits.iter().filter(|limit| !limit.shadow) {
        let parameter = |name, time: Option<Duration>| {
            time.map_or(String::new(), |time| format!(";{name}={}", whole_seconds(time)))
        };
        policies.push(format!("\"{}\";q={}{}", limit.name, limit.limit, parameter("w", limit.window)));
        let (left, reset) = (limit.remaining.max(0), parameter("t", limit.reset_after));
        states.push(format!("\"{}\";r={left}{reset}", limit.name));
    }
    for (name, items) in [(RATELIMIT_POLICY, policies), (RATELIMIT, states)] {
        // A service behind the layer may have limits of its own.
        if let (false, Ok(value)) = (items.is_empty(), HeaderValue::from_str(&items.join(", "))) {
            headers.append(name, value);
        }
    }
}

/// Returns whole seconds, rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}
