//! What can be asked for: one file per group of commands.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod database;
pub(crate) mod grace;
pub(crate) mod import;
pub(crate) mod key;
mod replay;
pub(crate) mod session;
pub(crate) mod tenant;
pub(crate) mod usage;
pub(crate) mod validate;

use clap::CommandFactory as _;
use clap_complete::Shell;
use tenant_auth_client::Client;
use uuid::Uuid;

use crate::{
    args::{Cli, Command, Globals},
    exit::Exit,
    failure::Failure,
    output::Output,
    probe,
    time::Moment,
    view::InfoView,
};

/// What every command needs: where to ask and where to tell.
pub(crate) struct Context {
    globals: Globals,
    /// Names this run in the service's log.
    request_id: String,
    pub(crate) output: Output,
}

impl Context {
    pub(crate) fn new(globals: Globals) -> Self {
        let request_id = Uuid::now_v7().simple().to_string();
        Self { output: Output::new(globals.json), request_id, globals }
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_of(&self.globals.endpoint, None)
    }

    /// One of another endpoint, whose certificate is for `server_name` where that is not its host.
    fn client_of(&self, endpoint: &str, server_name: Option<&str>) -> Result<Client, Failure> {
        let builder = Client::builder(endpoint)
            .timeout(self.globals.timeout)
            // One question, one answer: nothing is asked twice.
            .without_near_cache()
            .request_id(&self.request_id)
            .user_agent(concat!("tenantctl/", env!("CARGO_PKG_VERSION")));
        self.globals.credentials.connect(builder, endpoint, server_name, self.globals.given)
    }

    /// What the service takes for now: this machine's clock may be wrong, and decides nothing over there.
    pub(crate) async fn now(&self) -> Result<Moment, Failure> {
        let info = self.client()?.server_info().await.map_err(Failure::naming(&[]))?;
        Ok(info.now.into())
    }

    pub(crate) async fn tell(&self, failure: &Failure) {
        let spoken = match failure.is_unreachable() {
            true => probe::spoken(&self.globals.endpoint).await,
            false => None,
        };
        self.output.tell(&failure.told(&self.globals, spoken, &self.request_id));
    }
}

/// Does what was asked for.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Tenant(command) => tenant::run(context, command).await,
        Command::Key(command) => key::run(context, command).await,
        Command::Session(command) => session::run(context, command).await,
        Command::Grace(command) => grace::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Database(command) => database::run(context, command).await,
        Command::Usage(command) => usage::run(context, command).await,
        Command::Validate(command) => validate::run(context, command).await,
        Command::Info => info(context).await,
        Command::Completions { shell } => completions(context, shell),
    }
}

async fn info(context: &Context) -> Result<Exit, Failure> {
    let info = context.client()?.server_info().await.map_err(Failure::naming(&[]))?;
    context.output.show(&InfoView::new(&context.globals.endpoint, info))?;
    Ok(Exit::Done)
}

fn completions(context: &Context, shell: Shell) -> Result<Exit, Failure> {
    // Into memory first: the generator panics when a pipe breaks.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenantctl", &mut script);
    let script = String::from_utf8_lossy(&script);
    context.output.line(script.trim_end())?;
    Ok(Exit::Done)
}
