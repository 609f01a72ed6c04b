//! `tenantctl key check`: compares one key on every replica.

use clap::Args;
use tenant_auth_client::{Client, Error, proto};

use super::{
    Context,
    replica::{self, Replica},
};
use crate::{
    exit::Exit,
    failure::{Failure, FieldNames},
    view::{CheckView, DatabaseRow},
};

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Public id of the key
    key_id: String,

    /// Check this replica: a host or an address, with the port and scheme of --endpoint by default; may be repeated
    #[arg(long = "replica", required_unless_present = "all", conflicts_with = "all", value_name = "ADDR")]
    replicas: Vec<String>,

    /// Check every replica behind the name in --endpoint, one per resolved address
    #[arg(long)]
    all: bool,
}

const FIELD_NAMES: FieldNames = &[("key_id", "KEY_ID")];

pub(super) async fn run(context: &Context, command: Check) -> Result<Exit, Failure> {
    // Without --replica, --all is set.
    let clients = replica::clients(context, &command.replicas, context.globals.timeout).await?;
    let answers = inspect_all(&clients, &command.key_id).await?;
    // The database state is read through a replica that responded, since --endpoint may lead to another
    // service.
    let answering = clients.iter().zip(&answers).find(|(_, answer)| answer.is_ok());
    let database = match answering {
        Some(((replica, client), _)) => read_database(context, replica, client, &command.key_id).await,
        None => {
            DatabaseRow::unanswered(Failure::Unexpected("no replica responded".to_owned()).local_report())
        }
    };
    let result = |((replica, _), answer): (&(Replica, Client), Result<_, Failure>)| {
        (replica.endpoint.clone(), answer.map_err(|failure| context.report_for(&failure, &replica.endpoint)))
    };
    let answers = clients.iter().zip(answers).map(result).collect();
    let view = CheckView::new(command.key_id, database, answers);
    context.output.show(&view)?;
    Ok(if !view.is_consistent() {
        Exit::Denied
    } else if !view.is_complete() {
        Exit::Unavailable
    } else if view.is_key_unknown() {
        Exit::Precondition
    } else {
        Exit::Done
    })
}

/// Sends the request to all replicas at once and returns their answers in order. An invalid request fails for
/// all of them.
async fn inspect_all(
    clients: &[(Replica, Client)],
    key_id: &str,
) -> Result<Vec<Result<proto::InspectKeyResponse, Failure>>, Failure> {
    let request = |client: Client| {
        let key_id = key_id.to_owned();
        async move { client.admin().inspect_key(&key_id).await }
    };
    replica::ask_all(clients, FIELD_NAMES, request).await
}

async fn read_database(context: &Context, replica: &Replica, client: &Client, key_id: &str) -> DatabaseRow {
    match client.admin().get_key(key_id).await {
        Ok(state) => DatabaseRow::new(&state),
        Err(Error::NotFound { .. }) => DatabaseRow::unknown(),
        Err(error) => DatabaseRow::unanswered(
            context.report_for(&Failure::from_service(FIELD_NAMES)(error), &replica.endpoint),
        ),
    }
}
