//! The policy: which scopes the tools, resources, prompts and methods of a server need.

mod check;
mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::operation::{Kind, Operation};
use crate::{Error, options::setup_error};

/// Which scopes a key needs for the tools, resources, prompts and methods of an MCP server, and what their use is recorded as.
///
/// A name that ends in `*` is a prefix: an exact name wins, then the longest prefix. If there is a rule for any tool, tools
/// without a rule are refused; the same holds for resources and prompts. A rule for a method applies in addition, and methods
/// without a rule need only a valid key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct McpPolicy {
    tools: Option<Rules>,
    resources: Option<Rules>,
    prompts: Option<Rules>,
    methods: Option<Rules>,
}

/// What one entry of an [`McpPolicy`] demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct McpRule {
    scopes: Vec<String>,
    usage: Option<Usage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) metric: String,
    pub(super) quantity: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    exact: BTreeMap<String, McpRule>,
    /// Without the asterisk.
    prefixes: BTreeMap<String, McpRule>,
}

/// What operations demand of a key, and what they are recorded as.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    /// The scopes of each operation, with those of its method.
    pub(super) scopes: Vec<BTreeSet<String>>,
    pub(super) usage: Vec<Usage>,
}

/// Why an operation is refused for every key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No rule matches.
    NotInPolicy,
    /// The message does not name what it wants to use.
    Unnamed,
}

impl McpRule {
    /// Creates a rule that any valid key satisfies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a scope that the key must hold; may be called more than once.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Records each admitted operation as a quantity of a metric, in the unit of the metric.
    pub fn usage(mut self, metric: impl Into<String>, quantity: i64) -> Self {
        self.usage = Some(Usage { metric: metric.into(), quantity });
        self
    }
}

impl McpPolicy {
    /// Creates a policy without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a policy from JSON; the README has an example.
    ///
    /// # Errors
    /// [`Error::Setup`] with the path of what is wrong, and how to correct it.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        file::read(json)
    }

    /// Reads a policy from a JSON file.
    ///
    /// # Errors
    /// As for [`Self::from_json`], and if the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let json = std::fs::read_to_string(path)
            .map_err(|error| setup_error(format!("policy file {}: {error}", path.display())))?;
        Self::from_json(&json)
    }

    /// Adds a rule for a tool, or for all tools with a prefix.
    pub fn tool(mut self, name: impl Into<String>, rule: McpRule) -> Self {
        self.tools.get_or_insert_default().insert(name.into(), rule);
        self
    }

    /// Adds a rule for the URI of a resource, or for all URIs with a prefix.
    pub fn resource(mut self, uri: impl Into<String>, rule: McpRule) -> Self {
        self.resources.get_or_insert_default().insert(uri.into(), rule);
        self
    }

    /// Adds a rule for a prompt, or for all prompts with a prefix.
    pub fn prompt(mut self, name: impl Into<String>, rule: McpRule) -> Self {
        self.prompts.get_or_insert_default().insert(name.into(), rule);
        self
    }

    /// Adds a rule for a method, such as `logging/setLevel`, or for all methods with a prefix.
    pub fn method(mut self, name: impl Into<String>, rule: McpRule) -> Self {
        self.methods.get_or_insert_default().insert(name.into(), rule);
        self
    }

    /// Adds what a method and its operations demand, besides scopes that everything needs.
    ///
    /// # Errors
    /// If an operation is refused for every key.
    pub(super) fn add_demand(
        &self,
        demand: &mut Demand,
        method: Option<&str>,
        operations: &[Operation],
        required: &[String],
    ) -> Result<(), Refusal> {
        let of_method = self.methods.as_ref().zip(method).and_then(|(rules, method)| rules.find(method));
        let common = of_method.map_or(&[][..], |rule| &rule.scopes).iter().chain(required);
        demand.usage.extend(of_method.and_then(|rule| rule.usage.clone()));
        if operations.is_empty() {
            demand.scopes.push(common.clone().cloned().collect());
        }
        for operation in operations {
            let rule = match self.rules(operation.kind) {
                Some(rules) => {
                    let name = operation.name.as_deref().ok_or(Refusal::Unnamed)?;
                    Some(rules.find(name).ok_or(Refusal::NotInPolicy)?)
                }
                None => None,
            };
            let scopes = rule.into_iter().flat_map(|rule| &rule.scopes);
            demand.scopes.push(scopes.chain(common.clone()).cloned().collect());
            demand.usage.extend(rule.and_then(|rule| rule.usage.clone()));
        }
        Ok(())
    }

    /// Returns whether a key with these scopes may use something.
    pub(super) fn permits(&self, kind: Kind, name: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.rules(kind).is_none_or(|rules| {
            rules.find(name).is_some_and(|rule| rule.scopes.iter().all(|scope| holds(scope)))
        })
    }

    /// Returns all scopes of all rules, sorted.
    pub(super) fn all_scopes(&self) -> BTreeSet<&str> {
        self.all_rules().flat_map(|(_, _, rule)| rule.scopes.iter().map(String::as_str)).collect()
    }

    pub(super) fn records_usage(&self) -> bool {
        self.all_rules().any(|(_, _, rule)| rule.usage.is_some())
    }

    fn rules(&self, kind: Kind) -> Option<&Rules> {
        match kind {
            Kind::Tool => self.tools.as_ref(),
            Kind::Resource => self.resources.as_ref(),
            Kind::Prompt => self.prompts.as_ref(),
        }
    }

    /// Returns each rule with its section and its name.
    fn all_rules(&self) -> impl Iterator<Item = (&'static str, String, &McpRule)> {
        let sections = [
            ("tools", &self.tools),
            ("resources", &self.resources),
            ("prompts", &self.prompts),
            ("methods", &self.methods),
        ];
        sections.into_iter().filter_map(|(section, rules)| Some((section, rules.as_ref()?))).flat_map(
            |(section, rules)| {
                let exact = rules.exact.iter().map(move |(name, rule)| (section, name.clone(), rule));
                let prefix = move |(name, rule): (&String, _)| (section, format!("{name}*"), rule);
                exact.chain(rules.prefixes.iter().map(prefix))
            },
        )
    }
}

impl Rules {
    fn insert(&mut self, mut name: String, rule: McpRule) {
        if name.ends_with('*') {
            name.pop();
            self.prefixes.insert(name, rule);
        } else {
            self.exact.insert(name, rule);
        }
    }

    fn find(&self, name: &str) -> Option<&McpRule> {
        self.exact.get(name).or_else(|| {
            let matching = self.prefixes.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
            matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, rule)| rule)
        })
    }
}

impl Demand {
    /// Returns what everything needs.
    pub(super) fn of_all(required: &[String]) -> Self {
        Self { scopes: vec![required.iter().cloned().collect()], usage: Vec::new() }
    }

    /// Returns all scopes, sorted.
    pub(super) fn all_scopes(&self) -> BTreeSet<&str> {
        self.scopes.iter().flatten().map(String::as_str).collect()
    }
}
