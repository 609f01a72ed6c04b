//! Settings of an [`McpLayer`].

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Extensions, HeaderName, request::Parts};

use super::{McpLayer, McpPolicy, handles::check_ttl, metadata::ResourceMetadata};
use crate::{
    Client, Cost, Error, UsageRecorder,
    layer::{Authenticator, Costs, LimitedLog},
    network::TrustedProxies,
    options::{check_count, setup_error},
};

const DEFAULT_BODY_LIMIT: usize = 4 * 1_024 * 1_024;
const DEFAULT_SESSION_TTL: Duration = Duration::from_secs(3_600);

/// The settings of a layer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) authenticator: Authenticator,
    pub(super) policy: Option<McpPolicy>,
    pub(super) required_scopes: Vec<String>,
    pub(super) exempt: Vec<String>,
    pub(super) recorder: Option<UsageRecorder>,
    pub(super) unrecorded: Arc<LimitedLog>,
    pub(super) filter_lists: bool,
    pub(super) body_limit: usize,
    pub(super) session_ttl: Duration,
    pub(super) metadata: Option<ResourceMetadata>,
}

/// Settings of an [`McpLayer`]; see [`McpLayer::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct McpLayerBuilder {
    settings: Settings,
    resource: Option<(String, Vec<String>)>,
    proxies: Vec<String>,
}

impl McpLayerBuilder {
    pub(super) fn new(client: Client) -> Self {
        let settings = Settings {
            authenticator: Authenticator::new(client),
            policy: None,
            required_scopes: Vec::new(),
            exempt: Vec::new(),
            recorder: None,
            unrecorded: Arc::default(),
            filter_lists: true,
            body_limit: DEFAULT_BODY_LIMIT,
            session_ttl: DEFAULT_SESSION_TTL,
            metadata: None,
        };
        Self { settings, resource: None, proxies: Vec::new() }
    }

    /// Sets which scopes tools, resources, prompts and methods need. Without a policy, every valid key may use all of them.
    pub fn policy(mut self, policy: McpPolicy) -> Self {
        self.settings.policy = Some(policy);
        self
    }

    /// Sets the recorder of the usage that the policy names.
    pub fn usage(mut self, recorder: UsageRecorder) -> Self {
        self.settings.recorder = Some(recorder);
        self
    }

    /// Adds a scope that every request needs; may be called more than once.
    pub fn requires(mut self, scope: impl Into<String>) -> Self {
        self.settings.required_scopes.push(scope.into());
        self
    }

    /// Reads the key from this header, too, such as `x-api-key`, which contains only the key; may be called more than once.
    pub fn or_header(mut self, name: HeaderName) -> Self {
        self.settings.authenticator.key_headers.push(name);
        self
    }

    /// Reads the address of the peer from the extensions of a request; see
    /// [`AuthenticateLayer::peer_address`](crate::AuthenticateLayer::peer_address).
    pub fn peer_address<F>(mut self, read: F) -> Self
    where
        F: Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    {
        self.settings.authenticator.client_address.peer = Arc::new(read);
        self
    }

    /// Trusts the forwarding header of requests whose peer is in one of these networks; see
    /// [`AuthenticateLayer::trusted_proxies`](crate::AuthenticateLayer::trusted_proxies).
    pub fn trusted_proxies<T: AsRef<str>>(mut self, networks: &[T]) -> Self {
        self.proxies = networks.iter().map(|network| network.as_ref().to_owned()).collect();
        self
    }

    /// Reads forwarded addresses from another header than `x-forwarded-for`. Only trusted proxies may set it.
    pub fn client_address_header(mut self, name: HeaderName) -> Self {
        self.settings.authenticator.client_address.header = name;
        self
    }

    /// Takes these amounts from the limits of the key with each request; see
    /// [`AuthenticateLayer::costs`](crate::AuthenticateLayer::costs). Requests that the policy refuses cost the same.
    pub fn costs(mut self, costs: impl IntoIterator<Item = Cost>) -> Self {
        self.settings.authenticator.costs = Some(Costs::fixed(costs));
        self
    }

    /// Takes the amounts that a function returns for a request; see
    /// [`AuthenticateLayer::costs_of`](crate::AuthenticateLayer::costs_of). It sees the headers, not the body.
    pub fn costs_of<F>(mut self, costs: F) -> Self
    where
        F: Fn(&Parts) -> Vec<Cost> + Send + Sync + 'static,
    {
        self.settings.authenticator.costs = Some(Costs::of(costs));
        self
    }

    /// Adds a path that needs no key, exactly as requested, such as `/healthz`; may be called more than once.
    pub fn exempt(mut self, path: impl Into<String>) -> Self {
        self.settings.exempt.push(path.into());
        self
    }

    /// Sets whether the lists of tools, prompts, resources and templates contain only what the key may use. Default: true. It
    /// has no effect without a policy.
    pub fn filter_lists(mut self, filter: bool) -> Self {
        self.settings.filter_lists = filter;
        self
    }

    /// Sets the maximum size in bytes of a body that is read for the policy. Default: 4 MiB; larger bodies are rejected with
    /// 413.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body_limit = bytes;
        self
    }

    /// Sets how long after its last use a session ends: 60 s to 24 h. Default: 1 h.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.settings.session_ttl = ttl;
        self
    }

    /// Publishes the metadata of RFC 9728, and names them in challenges: the URI of this server exactly as clients use it, and
    /// at least one authorization server. Without it, clients are never sent to OAuth.
    pub fn protected_resource<T: AsRef<str>>(
        mut self,
        resource: impl Into<String>,
        authorization_servers: &[T],
    ) -> Self {
        let servers = authorization_servers.iter().map(|server| server.as_ref().to_owned()).collect();
        self.resource = Some((resource.into(), servers));
        self
    }

    /// Returns the layer.
    ///
    /// # Errors
    /// [`Error::Setup`] for an invalid setting, or a policy with usage without a recorder.
    pub fn build(self) -> Result<McpLayer, Error> {
        let mut settings = self.settings;
        let policy = settings.policy.as_ref();
        policy.map_or(Ok(()), McpPolicy::check)?;
        if policy.is_some_and(McpPolicy::records_usage) && settings.recorder.is_none() {
            return Err(setup_error(
                "usage: the policy records usage, but there is no recorder: call McpLayerBuilder::usage"
                    .to_owned(),
            ));
        }
        if let Some((resource, servers)) = self.resource {
            settings.metadata = Some(ResourceMetadata::new(&resource, &servers, policy)?);
        }
        settings.authenticator.client_address.proxies = TrustedProxies::parse(&self.proxies)?;
        settings.body_limit = check_count("body_limit", settings.body_limit)?;
        settings.session_ttl = check_ttl("session_ttl", settings.session_ttl)?;
        Ok(McpLayer(Arc::new(settings)))
    }
}
