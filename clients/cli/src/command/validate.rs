//! `tenantctl validate`

use clap::Args;

use super::Context;
use crate::{
    args::CustomerAddress,
    exit::Exit,
    failure::{Failure, FieldNames},
    secret::KeySource,
    view::ValidationView,
};

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Scope that the key must hold; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    #[command(flatten)]
    address: CustomerAddress,

    #[command(flatten)]
    source: KeySource,
}

const FIELD_NAMES: FieldNames = &[("key", "the key"), ("required_scopes", "--scope")];

pub(super) async fn run(context: &Context, command: Validate) -> Result<Exit, Failure> {
    let client = context.client()?.with_client_address(command.address.get());
    let key = command.source.read()?;
    let scopes: Vec<_> = command.scopes.iter().map(String::as_str).collect();
    let validation = client.validate(&key, &scopes).await.map_err(Failure::from_service(FIELD_NAMES))?;
    let exit = if validation.is_valid() { Exit::Done } else { Exit::Denied };
    context.output.show(&ValidationView::new(validation))?;
    Ok(exit)
}
