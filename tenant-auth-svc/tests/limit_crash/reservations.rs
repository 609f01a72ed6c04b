//! How clients end their reservations: repeated until the outcome is known.

use tenant_auth_proto::v1::{self, ReservationState};
use tonic::Code;

use crate::{
    client::{Client, in_time},
    client_log::{Entry, ReservationEnd},
    outcomes::failure_of,
};

impl Client {
    /// Settles or cancels a reservation, or abandons it.
    pub(crate) async fn end_reservation(&mut self, mut entry: Entry) -> Entry {
        entry.end = match self.random.below(10) {
            0..=4 => Some(self.settle(&entry).await),
            5..=7 => Some(self.cancel(&entry).await),
            _ => None,
        };
        entry
    }

    async fn settle(&mut self, entry: &Entry) -> ReservationEnd {
        let actual = entry.costs.iter().map(|(metric, reserved)| {
            let most = usize::try_from(reserved + 3).unwrap();
            let amount = i64::try_from(self.random.below(most)).unwrap();
            v1::SettledCost { metric: (*metric).to_owned(), amount }
        });
        let reservation_id = entry.id().unwrap_or_default().to_owned();
        let request = v1::SettleRequest { reservation_id, actual: actual.collect() };
        loop {
            let replica = self.random.below(self.replicas.len());
            match self.replicas[replica].settle(in_time(request.clone())).await {
                Ok(response) => {
                    let response = response.into_inner();
                    let limits = response.limits.iter();
                    let limits = limits.map(|limit| (limit.name.clone(), limit.charged, limit.exceeded_by));
                    return ReservationEnd::Settled(response.state(), limits.collect());
                }
                // Panics at an error that a repetition cannot mend.
                Err(status) => _ = failure_of(&status),
            }
            self.pause().await;
        }
    }

    async fn cancel(&mut self, entry: &Entry) -> ReservationEnd {
        let request = v1::CancelRequest { reservation_id: entry.id().unwrap_or_default().to_owned() };
        loop {
            let replica = self.random.below(self.replicas.len());
            match self.replicas[replica].cancel(in_time(request.clone())).await {
                Ok(response) => {
                    let state = response.into_inner().state();
                    assert!(
                        matches!(state, ReservationState::Cancelled | ReservationState::Expired),
                        "{state:?}"
                    );
                    return ReservationEnd::Cancelled(state);
                }
                Err(status) => _ = failure_of(&status),
            }
            self.pause().await;
        }
    }

    /// Cancels a reservation that does not exist. Returns whether that was answered.
    pub(crate) async fn cancel_unknown(&mut self, id: &str) -> bool {
        let request = v1::CancelRequest { reservation_id: id.to_owned() };
        match self.replicas[0].cancel(in_time(request)).await {
            Err(status) if status.code() == Code::NotFound => true,
            Err(status) => {
                failure_of(&status);
                self.pause().await;
                false
            }
            Ok(response) => panic!("it exists: {response:?}"),
        }
    }
}
