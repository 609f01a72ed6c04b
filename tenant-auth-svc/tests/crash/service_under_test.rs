//! A service and its database as processes; chooses which of the two is killed, and when.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use prost_types::Timestamp;
use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, usage_service_client::UsageServiceClient,
};
use tenant_auth_testkit::Random;
use tonic::{Status, transport::Channel};

use crate::{
    database::Database,
    ledger::Sums,
    process::{Process, WAIT_TIMEOUT, free_address, service_command},
    traffic::{TENANTS, Traffic, tenant_id},
};

/// A part that occurs in every usage transaction and in no other.
const USAGE_WRITE: &str = "INSERT INTO usage_requests";

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseKind {
    Embedded,
    Remote,
}

/// The process to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Service,
    Database,
}

/// An additional fault of the database, so that the kill interrupts partial work.
enum DatabaseTrouble {
    None,
    /// The responses to this many transactions are lost after their commits.
    LostResponses(usize),
    /// A transaction is committed and its response held, so that the kill falls between the two.
    HeldCommit,
}

pub(crate) struct ServiceUnderTest {
    folder: TempDir,
    address: SocketAddr,
    service: Process,
    /// `None` if the database is embedded.
    database: Option<Database>,
}

impl ServiceUnderTest {
    /// Starts the processes and creates the tenants.
    pub(crate) async fn start(kind: DatabaseKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = (kind == DatabaseKind::Remote).then(|| Database::start(folder.path(), USAGE_WRITE));
        let address = free_address();
        let mut serve = service_command("serve", &database_url(&folder, database.as_ref()));
        serve.env("TENANT_AUTH_LISTEN", address.to_string());
        let service = Process::start(serve, folder.path(), "service");
        let mut setup = Self { folder, address, service, database };
        for number in 0..TENANTS {
            let request = v1::CreateTenantRequest {
                tenant_id: tenant_id(number),
                name: "Tenant".to_owned(),
                plan: "pro".to_owned(),
            };
            let admin = AdminServiceClient::new(setup.channel());
            setup.until_answered(async || admin.clone().create_tenant(request.clone()).await).await;
        }
        setup
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(self.endpoint()).unwrap().connect_lazy()
    }

    /// Returns the file of the database.
    pub(crate) fn file(&self) -> PathBuf {
        self.database.as_ref().map_or_else(|| embedded_file(&self.folder), |database| database.file.clone())
    }

    /// Waits for traffic and kills one of the two processes during it. Returns how many requests were in
    /// flight.
    pub(crate) async fn kill_during_traffic(
        &mut self,
        victim: Victim,
        traffic: &mut Traffic,
        random: &mut Random,
    ) -> usize {
        let fault = match random.below(4) {
            _ if self.database.is_none() => DatabaseTrouble::None,
            0 => DatabaseTrouble::LostResponses(1 + random.below(3)),
            1 => DatabaseTrouble::HeldCommit,
            _ => DatabaseTrouble::None,
        };
        if let (DatabaseTrouble::LostResponses(count), Some(database)) = (&fault, &mut self.database) {
            database.lose_commit_responses(*count).await;
        }
        // Some kills hit a process that is still starting.
        if random.is_chance(95) {
            let more = 1 + random.below(60);
            self.until_more_acknowledged(traffic, more).await;
        }
        if let (DatabaseTrouble::HeldCommit, Some(database)) = (&fault, &mut self.database) {
            database.hold_next_commit().await;
        }
        // Most usage is acknowledged together with other usage. A kill at once interrupts these responses.
        let at_once = !matches!(fault, DatabaseTrouble::HeldCommit) && random.is_chance(40);
        if !at_once {
            tokio::time::sleep(Duration::from_micros(random.below(30_000) as u64)).await;
        }
        let in_flight = traffic.in_flight();
        match (victim, &mut self.database) {
            (Victim::Service, database) => {
                self.service.kill().await;
                self.service.restart();
                if let Some(database) = database {
                    database.clear_faults().await;
                }
            }
            (Victim::Database, Some(database)) => {
                database.process.kill().await;
                database.process.restart();
            }
            (Victim::Database, None) => panic!("an embedded database cannot be killed alone"),
        }
        in_flight
    }

    /// Waits until this many more requests are acknowledged.
    pub(crate) async fn until_more_acknowledged(&mut self, traffic: &mut Traffic, more: usize) {
        let in_time = tokio::select! {
            proceeded = tokio::time::timeout(WAIT_TIMEOUT, traffic.until_more_acknowledged(more)) => proceeded.is_ok(),
            end = self.service.wait_for_exit() => panic!("the service exited: {end}"),
        };
        assert!(in_time, "no request is acknowledged any more: {}", self.service.log_tail());
    }

    /// Returns the totals of all tenants as callers read them.
    pub(crate) async fn reported_totals(&mut self) -> Sums {
        let mut sums = Sums::new();
        for number in 0..TENANTS {
            let request = v1::QueryUsageRequest {
                tenant_id: tenant_id(number),
                start_time: Some(Timestamp { seconds: 0, nanos: 0 }),
                end_time: Some(Timestamp { seconds: 250_000_000_000, nanos: 0 }),
                bucket: v1::UsageBucket::Month.into(),
                ..Default::default()
            };
            let usage = UsageServiceClient::new(self.channel());
            let response =
                self.until_answered(async || usage.clone().query_usage(request.clone()).await).await;
            assert!(response.next_page_token.is_empty(), "three metrics in two months are one page");
            for sum in response.sums {
                *sums.entry((tenant_id(number), sum.metric)).or_default() += sum.quantity;
            }
        }
        sums
    }

    /// Stops the service for good: only one process may open an embedded database, and others must read it.
    pub(crate) async fn stop(&mut self) {
        self.service.kill().await;
    }

    /// Runs `reconcile`. Returns its exit code and its output.
    pub(crate) async fn reconcile(&self) -> (Option<i32>, String) {
        let mut reconcile = service_command("reconcile", &database_url(&self.folder, self.database.as_ref()));
        let output = tokio::time::timeout(WAIT_TIMEOUT, reconcile.kill_on_drop(true).output()).await;
        let output = output.expect("the command must exit").unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Calls the service until it answers.
    async fn until_answered<T>(&mut self, call: impl AsyncFn() -> Result<tonic::Response<T>, Status>) -> T {
        let mut last = None;
        let calling = async {
            loop {
                match call().await {
                    Ok(response) => return response.into_inner(),
                    Err(status) => last = Some(status),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let answer = tokio::select! {
            answer = tokio::time::timeout(WAIT_TIMEOUT, calling) => answer.ok(),
            end = self.service.wait_for_exit() => panic!("the service exited: {end}"),
        };
        answer.unwrap_or_else(|| panic!("no answer, last {last:?}: {}", self.service.log_tail()))
    }
}

fn embedded_file(folder: &TempDir) -> PathBuf {
    Path::join(folder.path(), "embedded.db")
}

fn database_url(folder: &TempDir, database: Option<&Database>) -> String {
    database
        .map_or_else(|| format!("file:{}", embedded_file(folder).display()), |database| database.url.clone())
}
