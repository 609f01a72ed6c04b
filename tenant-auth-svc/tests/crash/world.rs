//! A service with its database, as processes; who of the two is killed, and when.

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
use tonic::{Status, transport::Channel};

use crate::{
    database::Database,
    ledger::Sums,
    process::{PATIENCE, Process, free_address, program},
    random::Random,
    traffic::{TENANTS, Traffic, tenant},
};

/// Which kind of database there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Remote,
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Service,
    Database,
}

/// What goes wrong with the database besides, so that the kill finds things half done.
enum Trouble {
    None,
    /// The answers to this many transactions get lost, after they were committed.
    Lost(usize),
    /// A transaction is committed and never answered: whoever is killed, is killed between the two.
    Held,
}

pub(crate) struct World {
    folder: TempDir,
    address: SocketAddr,
    service: Process,
    /// None for an embedded one.
    database: Option<Database>,
}

impl World {
    /// Starts everything, and makes the tenants.
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = (kind == Kind::Remote).then(|| Database::start(folder.path()));
        let address = free_address();
        let mut serve = program("serve", &url(&folder, database.as_ref()));
        serve.env("TENANT_AUTH_LISTEN", address.to_string());
        let service = Process::start(serve, folder.path(), "service");
        let mut world = Self { folder, address, service, database };
        for number in 0..TENANTS {
            let request = v1::CreateTenantRequest {
                tenant_id: tenant(number),
                name: "Tenant".to_owned(),
                plan: "pro".to_owned(),
            };
            let admin = AdminServiceClient::new(world.channel());
            world.until_answered(async || admin.clone().create_tenant(request.clone()).await).await;
        }
        world
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(self.endpoint()).unwrap().connect_lazy()
    }

    /// Where the data is.
    pub(crate) fn file(&self) -> PathBuf {
        self.database.as_ref().map_or_else(|| embedded(&self.folder), |database| database.file.clone())
    }

    /// Waits for traffic, and kills one of the two in the midst of it. How many requests were under way then.
    pub(crate) async fn strike(
        &mut self,
        victim: Victim,
        traffic: &mut Traffic,
        random: &mut Random,
    ) -> usize {
        let trouble = match random.below(4) {
            _ if self.database.is_none() => Trouble::None,
            0 => Trouble::Lost(1 + random.below(3)),
            1 => Trouble::Held,
            _ => Trouble::None,
        };
        if let (Trouble::Lost(count), Some(database)) = (&trouble, &mut self.database) {
            database.lose(*count).await;
        }
        // Some are killed while they are still starting.
        if random.percent(95) {
            let more = 1 + random.below(60);
            self.proceed(traffic, more).await;
        }
        if let (Trouble::Held, Some(database)) = (&trouble, &mut self.database) {
            database.hold().await;
        }
        // Most usage that is acknowledged is so together with other usage: at once, their answers are under way.
        let at_once = !matches!(trouble, Trouble::Held) && random.percent(40);
        if !at_once {
            tokio::time::sleep(Duration::from_micros(random.below(30_000) as u64)).await;
        }
        let in_flight = traffic.in_flight();
        match (victim, &mut self.database) {
            (Victim::Service, database) => {
                self.service.kill().await;
                self.service.start_again();
                if let Some(database) = database {
                    database.well().await;
                }
            }
            (Victim::Database, Some(database)) => {
                database.process.kill().await;
                database.process.start_again();
            }
            (Victim::Database, None) => panic!("an embedded database is killed with its service"),
        }
        in_flight
    }

    /// Waits until this many more requests are acknowledged.
    pub(crate) async fn proceed(&mut self, traffic: &mut Traffic, more: usize) {
        let in_time = tokio::select! {
            proceeded = tokio::time::timeout(PATIENCE, traffic.proceed(more)) => proceeded.is_ok(),
            end = self.service.ended() => panic!("the service ended: {end}"),
        };
        assert!(in_time, "nothing is acknowledged any more: {}", self.service.last_words());
    }

    /// The totals of all tenants as callers are told them.
    pub(crate) async fn told(&mut self) -> Sums {
        let mut sums = Sums::new();
        for number in 0..TENANTS {
            let request = v1::QueryUsageRequest {
                tenant_id: tenant(number),
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
                *sums.entry((tenant(number), sum.metric)).or_default() += sum.quantity;
            }
        }
        sums
    }

    /// Ends the service for good: an embedded database belongs to one process, and others are to look at it.
    pub(crate) async fn stop(&mut self) {
        self.service.kill().await;
    }

    /// Lets `reconcile` compare: its exit code, and what it says.
    pub(crate) async fn reconcile(&self) -> (Option<i32>, String) {
        let mut reconcile = program("reconcile", &url(&self.folder, self.database.as_ref()));
        let output = tokio::time::timeout(PATIENCE, reconcile.kill_on_drop(true).output()).await;
        let output = output.expect("it must end").unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
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
            answer = tokio::time::timeout(PATIENCE, calling) => answer.ok(),
            end = self.service.ended() => panic!("the service ended: {end}"),
        };
        answer.unwrap_or_else(|| panic!("no answer, last {last:?}: {}", self.service.last_words()))
    }
}

fn embedded(folder: &TempDir) -> PathBuf {
    Path::join(folder.path(), "embedded.db")
}

fn url(folder: &TempDir, database: Option<&Database>) -> String {
    database.map_or_else(|| format!("file:{}", embedded(folder).display()), |database| database.url.clone())
}
