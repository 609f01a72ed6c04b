//! Setting amounts aside.

use std::time::Duration;

use tenant_auth_proto::v1::{
    self, limit_service_client::LimitServiceClient, reserve_response::Validation as WireValidation,
};
use uuid::Uuid;

use super::{Cost, LimitCredential, Limits, Reservation};
use crate::{
    Client, ClientAddress, Denied, Error, Validation, Verdict,
    call::{parse_duration, required_field},
};

/// What to set aside, and for whom.
#[derive(Debug)]
#[must_use]
pub struct ReserveRequest {
    credential: LimitCredential,
    costs: Vec<Cost>,
    reservation_id: Option<String>,
    expires_in: Option<Duration>,
    on_expiry: OnExpiry,
}

/// What happens to a reservation that is neither settled nor cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnExpiry {
    /// The amounts are given back.
    #[default]
    Release,
    /// The amounts count as used.
    Charge,
}

/// The decision about a request to set amounts aside.
#[derive(Debug)]
#[must_use = "a denial is not an error: check `is_allowed`, or use `into_reservation`"]
#[non_exhaustive]
pub struct ReserveOutcome {
    /// As in [`Consumption`](crate::Consumption): valid if everything is set aside.
    pub verdict: Verdict,
    /// The validation of the key or session; valid if a limit decided.
    pub validation: Validation,
    /// The limits that apply; empty if the key or session is not valid.
    pub limits: Limits,
    /// Whether an earlier call with this id had reserved the amounts. Then `limits` is empty.
    pub already_reserved: bool,
    /// Time until the reservation ends by itself, counted from before the call; `None` if nothing is set aside.
    pub expires_in: Option<Duration>,
    /// The reservation; `None` if nothing is set aside.
    pub reservation: Option<Reservation>,
}

impl ReserveRequest {
    /// Creates a request of a [`KeyQuery`](crate::KeyQuery), a [`SessionQuery`](crate::SessionQuery) or a
    /// [`PresentedKey`](crate::PresentedKey). It needs 1 to 16 costs.
    pub fn new(credential: impl Into<LimitCredential>) -> Self {
        let (credential, on_expiry) = (credential.into(), OnExpiry::default());
        Self { credential, costs: Vec::new(), reservation_id: None, expires_in: None, on_expiry }
    }

    /// Adds an amount of a metric to set aside, 1 to 1,000,000,000; each metric once.
    pub fn cost(self, metric: impl Into<String>, amount: i64) -> Self {
        self.costs([Cost::new(metric, amount)])
    }

    /// Adds amounts to set aside.
    pub fn costs(mut self, costs: impl IntoIterator<Item = Cost>) -> Self {
        self.costs.extend(costs);
        self
    }

    /// Sets the id of the reservation, 1 to 128 printable ASCII characters, unique per caller. Default: a random one.
    pub fn id(mut self, reservation_id: impl Into<String>) -> Self {
        self.reservation_id = Some(reservation_id.into());
        self
    }

    /// Sets when the reservation ends by itself: after 1 s to 24 h. Default: 10 minutes.
    pub fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    /// Sets what happens then. Default: the amounts are given back.
    pub fn on_expiry(mut self, on_expiry: OnExpiry) -> Self {
        self.on_expiry = on_expiry;
        self
    }

    fn to_message(&self, address: Option<ClientAddress>) -> Result<v1::ReserveRequest, Error> {
        let too_long = |_| Error::invalid_field("expires_in", "must be 1 s to 24 h");
        let on_expiry = match self.on_expiry {
            OnExpiry::Release => v1::ReservationExpiry::Release,
            OnExpiry::Charge => v1::ReservationExpiry::Charge,
        };
        Ok(v1::ReserveRequest {
            credential: Some(self.credential.to_message(address)),
            costs: self.costs.iter().map(Cost::to_message).collect(),
            reservation_id: self.reservation_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
            expires_in: self.expires_in.map(TryInto::try_into).transpose().map_err(too_long)?,
            on_expiry: on_expiry.into(),
        })
    }
}

impl ReserveOutcome {
    /// Returns whether everything is set aside.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.reservation.is_some()
    }

    /// Returns the reservation, or why nothing is set aside, with the limits.
    ///
    /// # Errors
    /// [`Denied`] for every verdict except [`Verdict::Valid`].
    pub fn into_reservation(self) -> Result<Reservation, Denied> {
        let denied =
            || Denied::by_limits(Validation { verdict: self.verdict, ..self.validation }, self.limits);
        self.reservation.ok_or_else(denied)
    }

    fn denied(validation: Validation) -> Self {
        Self {
            verdict: validation.verdict,
            validation,
            limits: Limits::default(),
            already_reserved: false,
            expires_in: None,
            reservation: None,
        }
    }
}

impl Client {
    /// Validates a key or a session and sets amounts aside whose actual value is known only later. The call is repeated after
    /// a failure; its id makes it count once.
    ///
    /// # Errors
    /// If nothing was decided; [`Error::AlreadyExists`] if the id was used for something else. A denial is not an error.
    pub async fn reserve(&self, request: &ReserveRequest) -> Result<ReserveOutcome, Error> {
        self.rpc().check_open()?;
        if let Some(malformed) = request.credential.malformed() {
            return Ok(ReserveOutcome::denied(malformed));
        }
        let message = request.to_message(self.limit_address())?;
        // If this call fails or is cancelled, it gives back what it may have reserved. Whoever has chosen the id may call again
        // with it instead.
        let is_random = request.reservation_id.is_none();
        let mut reservation = Reservation::new(self, message.reservation_id.clone(), is_random);
        let send = async |transport, message| LimitServiceClient::new(transport).reserve(message).await;
        let reply = self.rpc().call_retried(message, send).await.inspect_err(|error| {
            if !error.is_transient() {
                reservation.set_armed(false);
            }
        })?;
        let session_id = request.credential.session_id().unwrap_or_default().to_owned();
        let validation = match required_field(reply.validation, "validation")? {
            WireValidation::Key(message) => Validation::from_key_response(message)?,
            WireValidation::Session(message) => Validation::from_session_response(session_id, message)?,
        };
        let verdict = Verdict::from_wire(reply.verdict);
        let is_held = verdict.is_valid() && validation.is_valid();
        reservation.set_armed(is_held);
        let limits = Limits::from_wire(reply.limits)?;
        let expires_in = reply.expires_in.map(parse_duration).transpose()?;
        if let Some(denial) = self.newer_denial(&request.credential, &validation).await? {
            return Ok(ReserveOutcome::denied(denial));
        }
        Ok(ReserveOutcome {
            verdict,
            validation,
            limits,
            already_reserved: reply.already_reserved,
            expires_in: expires_in.filter(|_| is_held),
            reservation: is_held.then_some(reservation),
        })
    }
}
