//! Command-line flags that override variables.

use clap::Args;

use crate::config::{InvalidConfig, ServiceConfig, Setting, Settings};

/// The most used settings as flags; each overrides its variable. All other settings are variables only:
/// `check-config` lists them.
#[derive(Args, Debug, Default)]
pub(super) struct SettingsArgs {
    /// Address and port for gRPC [env: TENANT_AUTH_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Database URL: libsql://…, https://…, http://… or file:PATH [env: TENANT_AUTH_DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// File with the database token [env: TENANT_AUTH_DATABASE_TOKEN_FILE]
    #[arg(long, value_name = "PATH")]
    database_token_file: Option<String>,
    /// Prefix of issued keys [env: TENANT_AUTH_KEY_PREFIX]
    #[arg(long, value_name = "PREFIX")]
    key_prefix: Option<String>,
    /// File with one or two peppers: `issue <id> <secret>`, `accept <id> <secret>` [env: TENANT_AUTH_PEPPER_FILE]
    #[arg(long, value_name = "PATH")]
    pepper_file: Option<String>,
    /// Which events to log [env: TENANT_AUTH_LOG]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log format: text, json or auto [env: TENANT_AUTH_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Refuse to start unless built from a clean commit of main [env: TENANT_AUTH_REQUIRE_CANONICAL_BUILD]
    #[arg(long)]
    require_canonical_build: bool,
}

impl SettingsArgs {
    /// Reads the environment and the flags.
    pub(super) fn read(self) -> Result<(ServiceConfig, Vec<Setting>), InvalidConfig> {
        let settings = Settings::from_environment()
            .with_option("--listen", "TENANT_AUTH_LISTEN", self.listen)
            .with_option("--database-url", "TENANT_AUTH_DATABASE_URL", self.database_url)
            .with_option("--database-token-file", "TENANT_AUTH_DATABASE_TOKEN_FILE", self.database_token_file)
            .with_option("--key-prefix", "TENANT_AUTH_KEY_PREFIX", self.key_prefix)
            .with_option("--pepper-file", "TENANT_AUTH_PEPPER_FILE", self.pepper_file)
            .with_option("--log", "TENANT_AUTH_LOG", self.log)
            .with_option("--log-format", "TENANT_AUTH_LOG_FORMAT", self.log_format)
            .with_option(
                "--require-canonical-build",
                "TENANT_AUTH_REQUIRE_CANONICAL_BUILD",
                self.require_canonical_build.then(|| "true".to_owned()),
            );
        ServiceConfig::read(settings)
    }
}
