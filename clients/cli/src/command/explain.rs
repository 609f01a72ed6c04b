//! `tenantctl key explain`

use clap::Args;
use tenant_auth_client::proto;

use super::{Context, key::FIELD_NAMES};
use crate::{
    args::CustomerAddress,
    exit::Exit,
    failure::Failure,
    secret::KeySource,
    view::{ExplainedRequest, ExplanationView},
};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Public id of the key; without it, the key itself is read from standard input, a file or a prompt
    #[arg(conflicts_with = "key_file")]
    key_id: Option<String>,

    /// Scope that the key must hold; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    #[command(flatten)]
    address: CustomerAddress,

    #[command(flatten)]
    source: KeySource,
}

pub(super) async fn run(context: &Context, command: Explain) -> Result<Exit, Failure> {
    let address = command.address.get().map(|address| address.to_string());
    let mut request = proto::ExplainKeyRequest {
        required_scopes: command.scopes,
        client_address: address.clone().unwrap_or_default(),
        ..Default::default()
    };
    match command.key_id {
        Some(key_id) => request.key_id = key_id,
        None => request.plaintext = command.source.read()?.expose().to_owned(),
    }
    let explained = context.client()?.admin().explain_key(request).await;
    let explained = explained.map_err(Failure::from_service(FIELD_NAMES))?;
    let exit = match explained.verdict() {
        proto::Verdict::Valid => Exit::Done,
        proto::Verdict::Unspecified => Exit::Unavailable,
        _ => Exit::Denied,
    };
    context.output.show(&ExplanationView::new(explained, ExplainedRequest { client_address: address }))?;
    Ok(exit)
}
