//! `tenantctl key update`, `pause` and `resume`

use clap::Args;
use tenant_auth_client::proto;

use super::{
    Context,
    key::FIELD_NAMES,
    wait::{self, Wait},
};
use crate::{args::NewExpiry, exit::Exit, failure::Failure, view::KeyView};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true))]
pub(crate) struct Update {
    /// Public id of the key
    key_id: String,

    /// New display name, at most 64 characters
    #[arg(long, group = "changes")]
    name: Option<String>,

    /// Scope of the key from now on, such as orders:read; may be repeated. Other scopes are removed
    #[arg(long = "scope", value_name = "SCOPE", group = "changes")]
    scopes: Vec<String>,

    /// Remove all scopes
    #[arg(long, conflicts_with = "scopes", group = "changes")]
    no_scopes: bool,

    /// Network from which the key may be used from now on, such as 203.0.113.0/24; may be repeated. Other networks are
    /// removed
    #[arg(long = "network", value_name = "CIDR", group = "changes")]
    networks: Vec<String>,

    /// Remove all networks: the key may be used from everywhere
    #[arg(long, conflicts_with = "networks", group = "changes")]
    no_networks: bool,

    #[command(flatten)]
    expiry: NewExpiry,

    /// Change the key only if this is still its etag; see `tenantctl --json key get`
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,

    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,

    #[command(flatten)]
    wait: Wait,
}

pub(super) async fn run(context: &Context, command: Update) -> Result<Exit, Failure> {
    let has_scopes = command.no_scopes || !command.scopes.is_empty();
    let has_networks = command.no_networks || !command.networks.is_empty();
    let named = [
        ("name", command.name.is_some()),
        ("scopes", has_scopes),
        ("expires_at", command.expiry.is_given()),
        ("allowed_networks", has_networks),
    ];
    let paths = named.into_iter().filter(|(_, given)| *given).map(|(path, _)| path.to_owned()).collect();
    let request = proto::UpdateKeyRequest {
        key_id: command.key_id,
        update_mask: Some(prost_types::FieldMask { paths }),
        name: command.name.unwrap_or_default(),
        scopes: command.scopes,
        expires_at: command.expiry.timestamp(async || context.now().await).await?,
        enabled: false,
        etag: command.etag,
        reason: command.reason,
        allowed_networks: command.networks,
    };
    let updated = context.client()?.admin().update_key(request).await;
    let updated = updated.map_err(Failure::from_service(FIELD_NAMES))?;
    let view = KeyView::new(updated.key.unwrap_or_default());
    wait::show(context, &command.wait, view, updated.revision).await
}

pub(super) async fn set_enabled(
    context: &Context,
    key_id: &str,
    enabled: bool,
    reason: &str,
    wait: &Wait,
) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    let updated = match enabled {
        true => admin.enable_key(key_id, reason).await,
        false => admin.disable_key(key_id, reason).await,
    };
    let updated = updated.map_err(Failure::from_service(FIELD_NAMES))?;
    let view = KeyView::new(updated.key.unwrap_or_default());
    wait::show(context, wait, view, updated.revision).await
}
