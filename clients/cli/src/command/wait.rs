//! Waits until every replica has applied a change.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tenant_auth_client::{Client, proto};

use super::{Context, replica};
use crate::{
    exit::Exit,
    failure::Failure,
    output::View,
    time,
    view::{ChangeView, Confirmation},
};

/// Time that a replica has to respond after the end of the wait.
const RESPONSE_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Wait until every replica behind the name in --endpoint has applied the change
    ///
    /// Prints how many replicas confirmed it, and until when each of the others may answer as before. Exits with 4 if one
    /// does not confirm it.
    #[arg(long)]
    wait: bool,

    /// How long to wait, at most 10s
    #[arg(long, requires = "wait", value_parser = time::parse_span, default_value = "5s", value_name = "TIME")]
    wait_timeout: Duration,

    /// Wait for this replica instead: a host or an address, with the port and scheme of --endpoint by default; may be repeated
    #[arg(long = "replica", requires = "wait", value_name = "ADDR")]
    replicas: Vec<String>,
}

/// Shows a change, after waiting for the replicas if asked to.
pub(super) async fn show<V: View + Serialize>(
    context: &Context,
    wait: &Wait,
    view: V,
    revision: i64,
) -> Result<Exit, Failure> {
    let confirmations = if wait.wait { Some(confirm(context, wait, revision).await?) } else { None };
    let view = ChangeView::new(view, revision, confirmations);
    context.output.show(&view)?;
    Ok(if view.is_confirmed() { Exit::Done } else { Exit::Unavailable })
}

async fn confirm(context: &Context, wait: &Wait, revision: i64) -> Result<Vec<Confirmation>, Failure> {
    let (start, timeout) = (Instant::now(), wait.wait_timeout);
    let call_timeout = context.globals.timeout.max(timeout + RESPONSE_TIME);
    let clients = replica::clients(context, &wait.replicas, call_timeout).await?;
    let ask = |client: Client| async move {
        let answer = client.wait_for_revision(revision, timeout).await;
        answer.map(|answer: proto::WaitForRevisionResponse| (answer, start.elapsed()))
    };
    let field_names = &[("timeout", "--wait-timeout")];
    let answers = replica::ask_all(&clients, field_names, ask).await?;
    let confirmation = |((replica, _), answer): (&(replica::Replica, Client), Result<_, Failure>)| {
        let answer = answer.map_err(|failure| context.report_for(&failure, &replica.endpoint));
        Confirmation::new(replica.endpoint.clone(), answer)
    };
    Ok(clients.iter().zip(answers).map(confirmation).collect())
}
