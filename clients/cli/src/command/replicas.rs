//! `tenantctl replicas`

use clap::Args;
use tenant_auth_client::Client;

use super::{Context, replica};
use crate::{
    exit::Exit,
    failure::Failure,
    view::{ReplicaRow, ReplicasView},
};

#[derive(Debug, Args)]
pub(crate) struct Replicas {
    /// Show this replica instead: a host or an address, with the port and scheme of --endpoint by default; may be repeated
    #[arg(long = "replica", value_name = "ADDR")]
    replicas: Vec<String>,
}

pub(super) async fn run(context: &Context, command: &Replicas) -> Result<Exit, Failure> {
    let clients = replica::clients(context, &command.replicas, context.globals.timeout).await?;
    let ask = |client: Client| async move { client.server_info().await };
    let answers = replica::ask_all(&clients, &[], ask).await?;
    let row = |((replica, _), answer): (&(replica::Replica, Client), Result<_, Failure>)| {
        let answer = answer.map_err(|failure| context.report_for(&failure, &replica.endpoint));
        ReplicaRow::new(replica.endpoint.clone(), answer)
    };
    let view = ReplicasView::new(clients.iter().zip(answers).map(row).collect());
    context.output.show(&view)?;
    Ok(if view.is_complete() { Exit::Done } else { Exit::Unavailable })
}
