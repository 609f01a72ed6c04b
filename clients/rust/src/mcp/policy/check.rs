//! Checks the values of a policy, from code or from a file.

use super::{McpPolicy, McpRule};
use crate::{Error, near::is_valid_scope, options::setup_error, recorder::check_metric};

impl McpPolicy {
    /// # Errors
    /// [`Error::Setup`] with the path of what is wrong, and how to correct it.
    pub(in crate::mcp) fn check(&self) -> Result<(), Error> {
        self.all_rules().try_for_each(|(section, name, rule)| rule.check(&format!("{section}[{name:?}]")))
    }
}

impl McpRule {
    fn check(&self, path: &str) -> Result<(), Error> {
        for (index, scope) in self.scopes.iter().enumerate() {
            if !is_valid_scope(scope) {
                return Err(setup_error(format!(
                    "policy: {path}.scopes[{index}]: invalid scope {scope:?}: must be 1 to 64 characters of a-z 0-9 : . _ - / *"
                )));
            }
        }
        let Some(usage) = &self.usage else { return Ok(()) };
        check_metric(&usage.metric, usage.quantity)
            .map_err(|violation| setup_error(format!("policy: {path}.usage.{violation}")))
    }
}
