//! `tenantctl key …`

use std::time::Duration;

use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};
use tenant_auth_client::{PresentedKey, proto};

use super::{
    Context,
    check::{self, Check},
    explain::{self, Explain},
    import::{self, Import},
    key_update::{self, Update},
    wait::{self, Wait},
};
use crate::{
    args::{Expiry, Limit, NewExpiry},
    exit::Exit,
    failure::{Failure, FieldNames},
    import::{PrefixHint, key_text},
    listing,
    output::{Item, View},
    secret::KeySource,
    time,
    view::{IssuedView, KeyStateView, KeyView, KeyWithTenantView, RotatedView},
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Issue a key; its plaintext is shown once
    Issue(Issue),

    /// Import keys that were issued elsewhere, by their SHA-256
    ///
    /// The file is CSV with a header, separated by commas, semicolons or tabs, or JSON Lines; in UTF-8. Its
    /// columns or fields are tenant_id, sha256 (64 hex digits, base64 or base64url), name, prefix_hint (the first
    /// characters of the key), scopes (separated by spaces or semicolons; in JSON also an array), created_at and
    /// expires_at (RFC 3339). Only sha256 is required and, without --tenant, tenant_id.
    ///
    /// All rows are checked before any is sent. An import can be repeated, also after Ctrl-C or an error: keys
    /// that exist already with the same values are skipped. A key that exists with other values, or that is
    /// revoked or disabled, is reported as different and not changed.
    Import(Import),

    /// Print the SHA-256 of a key, for an import file
    ///
    /// Refuses a text that the service would never look up: a key has 8 to 256 bytes, each a printable ASCII
    /// character other than the space. One line end after the key is not part of it.
    Hash(KeySource),

    /// Change the name, scopes, networks or expiry of a key
    Update(Update),

    /// Disable a key until it is resumed: it is denied with DISABLED, and so are its sessions
    Pause {
        /// Public id of the key
        key_id: String,

        /// Reason, for the audit log
        #[arg(long)]
        reason: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Enable a paused key again
    Resume {
        /// Public id of the key
        key_id: String,

        /// Reason, for the audit log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Issue a successor of a key and let the old key expire; the successor's plaintext is shown once
    ///
    /// The successor has the name, the scopes, the networks and, unless an option says otherwise, the expiry of the old
    /// key.
    Rotate(Rotate),

    /// Revoke a key permanently
    Revoke {
        /// Public id of the key
        key_id: String,

        /// Reason, for the audit log
        #[arg(long)]
        reason: String,

        #[command(flatten)]
        wait: Wait,
    },

    /// Show a key without its plaintext, and the verdict that a validation would have now
    Get {
        /// Public id of the key
        key_id: String,
    },

    /// Say which verdict a replica gives on a key and why: its record in the database and in the memory of the replica, and
    /// who changed it last
    ///
    /// Exits with 0 if the key is valid, with 1 if it is denied, and with 4 if nothing can be decided now.
    Explain(Explain),

    /// Compare what each replica has cached about a key with the database
    ///
    /// No replica loads anything for it. A replica that has nothing cached reads the database when the key is
    /// presented. Exits with 0 if every replica responds and none contradicts another or the database, with 1
    /// if one contradicts, and with 4 if a replica or the database does not respond.
    Check(Check),

    /// List the keys of a tenant, oldest first, or the keys with a prefix or a name
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Tenant; with --prefix or --name, the default is all tenants
    #[arg(long, required_unless_present_any = ["prefix", "name"], value_name = "ID")]
    tenant: Option<String>,

    /// First characters of the keys, at most 24; never a whole key
    ///
    /// The service stores a few characters of each key (its prefix hint). A key is listed if its hint starts
    /// with the prefix, or the prefix starts with its hint.
    #[arg(long, value_parser = parse_prefix, value_name = "TEXT")]
    prefix: Option<String>,

    /// Only keys whose name begins with this text, at most 64 characters; upper and lower case of A to Z are the same
    #[arg(long, conflicts_with = "prefix", value_name = "TEXT")]
    name: Option<String>,

    /// Include revoked and expired keys
    #[arg(long)]
    include_inactive: bool,

    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// Tenant that owns the key
    #[arg(long, value_name = "ID")]
    tenant: String,

    /// Display name, at most 64 characters
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,

    /// Scope of the key, such as orders:read; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    /// Network from which the key may be used, such as 203.0.113.0/24, or an address; may be repeated. Default: everywhere
    #[arg(long = "network", value_name = "CIDR")]
    networks: Vec<String>,

    #[command(flatten)]
    expiry: Expiry,

    #[command(flatten)]
    display: KeyDisplay,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// Public id of the old key
    key_id: String,

    /// How long the old key stays valid; default 24h, 0s expires it at once
    #[arg(long, value_parser = time::parse_span, value_name = "TIME")]
    overlap: Option<Duration>,

    #[command(flatten)]
    expiry: NewExpiry,

    #[command(flatten)]
    display: KeyDisplay,
}

/// How a new key is printed.
#[derive(Clone, Copy, Debug, Args)]
struct KeyDisplay {
    /// Print only the key
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

const ISSUE_FIELD_NAMES: FieldNames = &[
    ("tenant_id", "--tenant"),
    ("name", "--name"),
    ("scopes", "--scope"),
    ("expires_at", "--expires-in or --expires-at"),
    ("allowed_networks", "--network"),
];
pub(super) const FIELD_NAMES: FieldNames = &[
    ("key_id", "KEY_ID"),
    ("overlap", "--overlap"),
    ("expires_at", "--expires-in or --expires-at"),
    ("reason", "--reason"),
    ("tenant_id", "--tenant"),
    ("prefix", "--prefix"),
    ("name", "--name"),
    ("name_prefix", "--name"),
    ("scopes", "--scope"),
    ("etag", "--etag"),
    ("allowed_networks", "--network"),
    ("plaintext", "the key"),
    ("required_scopes", "--scope"),
];

pub(super) async fn run(context: &Context, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Import(command) => return import::run(context, command).await,
        KeyCommand::Hash(source) => {
            let key = source.read()?;
            // Its hash would be of no use: the service denies such a key without a lookup.
            key_text::check(key.expose()).map_err(|error| {
                Failure::usage(format!("not a key that can be imported: the text {error}"))
            })?;
            let digest = Sha256::digest(key.expose());
            context.output.line(&hex::encode(digest))?;
        }
        KeyCommand::Issue(command) => issue(context, command).await?,
        KeyCommand::Update(command) => return key_update::run(context, command).await,
        KeyCommand::Pause { key_id, reason, wait } => {
            return key_update::set_enabled(context, &key_id, false, &reason, &wait).await;
        }
        KeyCommand::Resume { key_id, reason, wait } => {
            return key_update::set_enabled(context, &key_id, true, &reason, &wait).await;
        }
        KeyCommand::Rotate(command) => rotate(context, command).await?,
        KeyCommand::Revoke { key_id, reason, wait } => {
            let revoked = context.client()?.admin().revoke_key(&key_id, &reason).await;
            let revoked = revoked.map_err(Failure::from_service(FIELD_NAMES))?;
            let view = KeyView::new(revoked.key.unwrap_or_default());
            return wait::show(context, &wait, view, revoked.revision).await;
        }
        KeyCommand::Get { key_id } => {
            let state = context
                .client()?
                .admin()
                .get_key(&key_id)
                .await
                .map_err(Failure::from_service(FIELD_NAMES))?;
            context.output.show(&KeyStateView::new(state))?;
        }
        KeyCommand::Explain(command) => return explain::run(context, command).await,
        KeyCommand::Check(command) => return check::run(context, command).await,
        KeyCommand::List(command) if command.tenant.is_none() => {
            return list(context, command, KeyWithTenantView::new).await;
        }
        KeyCommand::List(command) => return list(context, command, KeyView::new).await,
    }
    Ok(Exit::Done)
}

async fn issue(context: &Context, command: Issue) -> Result<(), Failure> {
    let request = proto::IssueKeyRequest {
        tenant_id: command.tenant,
        name: command.name,
        scopes: command.scopes,
        expires_at: command.expiry.timestamp(async || context.now().await).await?,
        allowed_networks: command.networks,
        reason: String::new(),
    };
    let issued = context.client()?.admin().issue_key(request).await;
    let issued = issued.map_err(Failure::from_service(ISSUE_FIELD_NAMES))?;
    let view = IssuedView::new(&issued);
    print_new_key(context, command.display, &issued.plaintext, &issued.key.key_id, &view)
}

async fn rotate(context: &Context, command: Rotate) -> Result<(), Failure> {
    let overlap = command.overlap.map(prost_types::Duration::try_from).transpose();
    let request = proto::RotateKeyRequest {
        key_id: command.key_id,
        overlap: overlap.map_err(|_| Failure::usage("--overlap: the duration is too long"))?,
        no_expiry: command.expiry.is_never(),
        expires_at: command.expiry.timestamp(async || context.now().await).await?,
        reason: String::new(),
    };
    let rotated = context.client()?.admin().rotate_key(request).await;
    let rotated = rotated.map_err(Failure::from_service(FIELD_NAMES))?;
    let view = RotatedView::new(&rotated);
    print_new_key(context, command.display, &rotated.plaintext, &rotated.key.key_id, &view)
}

/// Prints a new key. If that fails the key is lost, so the warning has its id, to revoke it.
fn print_new_key(
    context: &Context,
    display: KeyDisplay,
    plaintext: &PresentedKey,
    key_id: &str,
    view: &impl View,
) -> Result<(), Failure> {
    let outcome = if display.quiet {
        context.output.line_or_fail(plaintext.expose())
    } else {
        context.output.show_or_fail(view)
    };
    match outcome {
        Ok(()) if display.quiet => {}
        Ok(()) => {
            context.output.advise("warning: the key is not stored and will not be shown again; save it now")
        }
        Err(_) => context.output.note(&format!("warning: the new key could not be printed; revoke {key_id}")),
    }
    outcome
}

async fn list<V: Item>(
    context: &Context,
    command: List,
    view: fn(proto::ApiKey) -> V,
) -> Result<Exit, Failure> {
    let admin = context.client()?.admin();
    let page = async |page_size, page_token| {
        let request = proto::ListKeysRequest {
            tenant_id: command.tenant.clone().unwrap_or_default(),
            page_size,
            page_token,
            include_inactive: command.include_inactive,
            prefix: command.prefix.clone().unwrap_or_default(),
            name_prefix: command.name.clone().unwrap_or_default(),
        };
        let page = admin.list_keys(request).await?;
        Ok((page.keys.into_iter().map(view).collect(), page.next_page_token))
    };
    listing::print_list(context.output, command.limit, FIELD_NAMES, page).await
}

/// A whole key must not leave this machine: a command line is already visible in too many places.
fn parse_prefix(text: &str) -> Result<String, &'static str> {
    match text.chars().count() {
        0 => Err("must not be empty"),
        1..=PrefixHint::MAX_CHARS => Ok(text.to_owned()),
        _ => Err("must have at most 24 characters: the first characters of the key are enough"),
    }
}
