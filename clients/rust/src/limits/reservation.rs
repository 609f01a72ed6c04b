//! A reservation: settled with the actual amounts, or cancelled.

use tenant_auth_proto::v1::{self, limit_service_client::LimitServiceClient};
use tokio::runtime::Handle;

use super::Cost;
use crate::{Client, Error, call::RpcClient};

/// Amounts that are set aside; see [`Client::reserve`].
///
/// On drop, also in a panic or when a task is cancelled, it is cancelled in the background, unless it was settled or
/// cancelled before. After an attempt to settle it that failed, it is not: its expiry decides.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is cancelled"]
pub struct Reservation {
    client: Client,
    id: String,
    is_armed: bool,
}

/// The state of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReservationState {
    /// The amounts are set aside.
    Held,
    /// The actual amounts are taken.
    Settled,
    /// The amounts were given back.
    Cancelled,
    /// It ended by itself.
    Expired,
    /// A value that this client does not know.
    Unrecognized(i32),
}

/// The result of settling a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settlement {
    /// [`ReservationState::Settled`], or [`ReservationState::Cancelled`] if it was cancelled before.
    pub state: ReservationState,
    /// One entry per limit of the reservation.
    pub limits: Vec<SettledLimit>,
    /// Whether an earlier call had settled it. Then `limits` is the result of that call.
    pub already_settled: bool,
}

/// The result of settling for one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettledLimit {
    /// The name of the limit.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// The amount that was reserved.
    pub reserved: i64,
    /// The amount that counts now.
    pub charged: i64,
    /// The part of the actual amount for which the limit had nothing left.
    pub exceeded_by: i64,
}

impl Reservation {
    pub(super) fn new(client: &Client, id: String, is_armed: bool) -> Self {
        Self { client: client.clone(), id, is_armed }
    }

    /// Returns the id, to settle or cancel it in another process.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Replaces the reserved amounts with the actual ones, 0 to 1,000,000,000 each; a metric that is missing counts as
    /// reserved. Can be repeated: the first call that reaches the service decides.
    ///
    /// # Errors
    /// As for [`Client::settle_reservation`].
    pub async fn settle(&mut self, actual: &[Cost]) -> Result<Settlement, Error> {
        // If this call is cancelled or fails, the amounts were used all the same.
        self.set_armed(false);
        settle(&self.client.rpc().ignoring_close(), &self.id, actual).await
    }

    /// Gives all reserved amounts back. Idempotent.
    ///
    /// # Errors
    /// As for [`Client::cancel_reservation`].
    pub async fn cancel(&mut self) -> Result<ReservationState, Error> {
        let state = cancel(&self.client.rpc().ignoring_close(), &self.id).await?;
        self.set_armed(false);
        Ok(state)
    }

    /// Returns the id of a reservation that is settled or cancelled elsewhere: it is not cancelled on drop.
    #[must_use]
    pub fn into_id(mut self) -> String {
        self.set_armed(false);
        std::mem::take(&mut self.id)
    }

    /// Sets whether it is cancelled on drop.
    pub(super) fn set_armed(&mut self, is_armed: bool) {
        self.is_armed = is_armed;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        // Without a runtime, for example while it shuts down, the expiry gives the amounts back.
        if let Ok(runtime) = Handle::try_current() {
            let (rpc, id) = (self.client.rpc().ignoring_close(), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                match cancel(&rpc, &id).await {
                    // A call to reserve that failed has mostly reserved nothing.
                    Ok(_) | Err(Error::NotFound { .. }) => {}
                    Err(error) => tracing::warn!(%error, "reservation not cancelled; it expires by itself"),
                }
            });
        }
    }
}

impl ReservationState {
    fn from_wire(number: i32) -> Self {
        match v1::ReservationState::try_from(number) {
            Ok(v1::ReservationState::Held) => Self::Held,
            Ok(v1::ReservationState::Settled) => Self::Settled,
            Ok(v1::ReservationState::Cancelled) => Self::Cancelled,
            Ok(v1::ReservationState::Expired) => Self::Expired,
            Ok(v1::ReservationState::Unspecified) | Err(_) => Self::Unrecognized(number),
        }
    }
}

impl From<v1::SettledLimit> for SettledLimit {
    fn from(message: v1::SettledLimit) -> Self {
        let v1::SettledLimit { name, metric, reserved, charged, exceeded_by } = message;
        Self { name, metric, reserved, charged, exceeded_by }
    }
}

impl Client {
    /// Settles a reservation by its id, as [`Reservation::settle`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist; [`Error::Invalid`] for a metric that was not reserved.
    pub async fn settle_reservation(
        &self,
        reservation_id: &str,
        actual: &[Cost],
    ) -> Result<Settlement, Error> {
        settle(self.rpc(), reservation_id, actual).await
    }

    /// Settles a reservation by its id, also after the client was closed.
    pub(super) async fn settle_held(
        &self,
        reservation_id: &str,
        actual: &[Cost],
    ) -> Result<Settlement, Error> {
        settle(&self.rpc().ignoring_close(), reservation_id, actual).await
    }

    /// Cancels a reservation by its id, as [`Reservation::cancel`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist; [`Error::FailedPrecondition`] if it was settled.
    pub async fn cancel_reservation(&self, reservation_id: &str) -> Result<ReservationState, Error> {
        cancel(self.rpc(), reservation_id).await
    }
}

async fn settle(rpc: &RpcClient, reservation_id: &str, actual: &[Cost]) -> Result<Settlement, Error> {
    let settled = |cost: &Cost| v1::SettledCost { metric: cost.metric.clone(), amount: cost.amount };
    let message = v1::SettleRequest {
        reservation_id: reservation_id.to_owned(),
        actual: actual.iter().map(settled).collect(),
    };
    let send = async |transport, message| LimitServiceClient::new(transport).settle(message).await;
    let reply = rpc.call_retried(message, send).await?;
    Ok(Settlement {
        state: ReservationState::from_wire(reply.state),
        limits: reply.limits.into_iter().map(SettledLimit::from).collect(),
        already_settled: reply.already_settled,
    })
}

async fn cancel(rpc: &RpcClient, reservation_id: &str) -> Result<ReservationState, Error> {
    let message = v1::CancelRequest { reservation_id: reservation_id.to_owned() };
    let send = async |transport, message| LimitServiceClient::new(transport).cancel(message).await;
    Ok(ReservationState::from_wire(rpc.call_retried(message, send).await?.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_reservations_match_the_contract() {
        use ReservationState::{Cancelled, Expired, Held, Settled, Unrecognized};
        let states: Vec<_> = (0..=5).map(ReservationState::from_wire).collect();
        assert_eq!(states, [Unrecognized(0), Held, Settled, Cancelled, Expired, Unrecognized(5)]);
    }
}
