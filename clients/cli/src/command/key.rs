//! `tenantctl key …`

use std::time::Duration;

use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};
use tenant_auth_client::{AdminClient, PresentedKey, proto};

use super::{
    Context,
    import::{self, Import},
};
use crate::{
    args::{Expiry, Limit},
    exit::Exit,
    failure::{Failure, Names},
    output::View,
    page,
    secret::KeySource,
    time,
    view::{IssuedView, KeyView, KeysView, RotatedView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Issue a key; it is shown once
    Issue(Issue),

    /// Take over keys that were issued elsewhere, by their SHA-256
    ///
    /// The file is CSV with a header, or JSON Lines. Its columns or fields are tenant_id, sha256 (64 hex digits), name,
    /// prefix_hint, scopes (separated by spaces or semicolons; in JSON also an array), created_at and expires_at (RFC
    /// 3339). Only sha256 must be there and, without --tenant, tenant_id.
    ///
    /// All rows are checked before any is sent. An import may be run again: what is there already is skipped.
    Import(Import),

    /// Print the SHA-256 of a key, for a file to import
    Hash(KeySource),

    /// Issue a key's successor and let the old key end; the successor is shown once
    Rotate(Rotate),

    /// Withdraw a key for good
    Revoke {
        /// The key's public id
        key_id: String,

        /// Why, for whoever asks later
        #[arg(long)]
        reason: String,
    },

    /// List a tenant's keys, oldest first
    List {
        /// The tenant
        #[arg(long, value_name = "ID")]
        tenant: String,

        /// Revoked and expired keys, too
        #[arg(long)]
        include_inactive: bool,

        #[command(flatten)]
        limit: Limit,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The tenant that will own it
    #[arg(long, value_name = "ID")]
    tenant: String,

    /// What people call it, up to 64 characters
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,

    /// What it may do, such as orders:read; repeat for more
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    #[command(flatten)]
    expiry: Expiry,

    #[command(flatten)]
    handing: Handing,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The old key's public id
    key_id: String,

    /// How long the old key stays good; 24h unless given, 0s ends it at once
    #[arg(long, value_parser = time::span, value_name = "TIME")]
    overlap: Option<Duration>,

    #[command(flatten)]
    expiry: Expiry,

    #[command(flatten)]
    handing: Handing,
}

/// How a new key is handed out.
#[derive(Clone, Copy, Debug, Args)]
struct Handing {
    /// Print the key and nothing else
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

const ISSUE: Names = &[
    ("tenant_id", "--tenant"),
    ("name", "--name"),
    ("scopes", "--scope"),
    ("expires_at", "--expires-in or --expires-at"),
];
const NAMES: Names = &[
    ("key_id", "KEY_ID"),
    ("overlap", "--overlap"),
    ("expires_at", "--expires-in or --expires-at"),
    ("reason", "--reason"),
    ("tenant_id", "--tenant"),
];

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Import(command) => return import::run(context, command).await,
        KeyCommand::Hash(source) => {
            let digest = Sha256::digest(source.read()?.expose());
            context.output.line(&hex::encode(digest))?;
        }
        KeyCommand::Issue(command) => issue(context, command).await?,
        KeyCommand::Rotate(command) => rotate(context, command).await?,
        KeyCommand::Revoke { key_id, reason } => {
            let key = context.client()?.admin().revoke_key(&key_id, &reason).await;
            let key = key.map_err(Failure::naming(NAMES))?;
            context.output.show(&KeyView::new(key))?;
        }
        KeyCommand::List { tenant, include_inactive, limit } => {
            let admin = context.client()?.admin();
            let keys = list(&admin, &tenant, include_inactive, limit).await?;
            context.output.show(&keys)?;
        }
    }
    Ok(Exit::Done)
}

async fn issue(context: &Context, command: Issue) -> Result<(), Failure> {
    let request = proto::IssueKeyRequest {
        tenant_id: command.tenant,
        name: command.name,
        scopes: command.scopes,
        expires_at: command.expiry.timestamp(async || context.now().await).await?,
    };
    let issued = context.client()?.admin().issue_key(request).await;
    let issued = issued.map_err(Failure::naming(ISSUE))?;
    let view = IssuedView::new(&issued);
    hand_out(context, command.handing, &issued.plaintext, &issued.key.key_id, &view)
}

async fn rotate(context: &Context, command: Rotate) -> Result<(), Failure> {
    let overlap = command.overlap.map(prost_types::Duration::try_from).transpose();
    let request = proto::RotateKeyRequest {
        key_id: command.key_id,
        overlap: overlap.map_err(|_| Failure::usage("--overlap is too long"))?,
        expires_at: command.expiry.timestamp(async || context.now().await).await?,
    };
    let rotated = context.client()?.admin().rotate_key(request).await;
    let rotated = rotated.map_err(Failure::naming(NAMES))?;
    let view = RotatedView::new(&rotated);
    hand_out(context, command.handing, &rotated.plaintext, &rotated.key.key_id, &view)
}

/// Shows a new key. Where it cannot be shown it is lost, so its id is told, to revoke it.
fn hand_out(
    context: &Context,
    handing: Handing,
    plaintext: &PresentedKey,
    key_id: &str,
    view: &impl View,
) -> Result<(), Failure> {
    let shown = if handing.quiet {
        context.output.line_or_fail(plaintext.expose())
    } else {
        context.output.show_or_fail(view)
    };
    match shown {
        Ok(()) if handing.quiet => {}
        Ok(()) => context
            .output
            .advise("warning: the key is stored nowhere and will not be shown again; keep it now"),
        Err(_) => context.output.note(&format!("warning: nobody saw the new key; revoke {key_id}")),
    }
    shown
}

async fn list(
    admin: &AdminClient,
    tenant: &str,
    include_inactive: bool,
    limit: Limit,
) -> Result<KeysView, Failure> {
    let listing = page::read(limit.cap(), async |page_size, page_token| {
        let tenant_id = tenant.to_owned();
        let request = proto::ListKeysRequest { tenant_id, page_size, page_token, include_inactive };
        let page = admin.list_keys(request).await?;
        Ok((page.keys, page.next_page_token))
    });
    Ok(KeysView::new(listing.await.map_err(Failure::naming(NAMES))?))
}
