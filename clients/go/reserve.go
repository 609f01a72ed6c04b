package tenantauth

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// ReservationExpiry is what happens to a reservation that is neither settled nor cancelled.
type ReservationExpiry int32

// The values of the contract.
const (
	// ReleaseOnExpiry gives the amounts back; the default.
	ReleaseOnExpiry = ReservationExpiry(tenantauthv1.ReservationExpiry_RESERVATION_EXPIRY_UNSPECIFIED)
	// ChargeOnExpiry counts the amounts as used.
	ChargeOnExpiry = ReservationExpiry(tenantauthv1.ReservationExpiry_RESERVATION_EXPIRY_CHARGE)
)

// ReservationState is the state of a reservation.
type ReservationState int32

// The values of the contract.
const (
	// ReservationHeld: the amounts are set aside.
	ReservationHeld = ReservationState(tenantauthv1.ReservationState_RESERVATION_STATE_HELD)
	// ReservationSettled: the actual amounts are taken.
	ReservationSettled = ReservationState(tenantauthv1.ReservationState_RESERVATION_STATE_SETTLED)
	// ReservationCancelled: the amounts were given back.
	ReservationCancelled = ReservationState(tenantauthv1.ReservationState_RESERVATION_STATE_CANCELLED)
	// ReservationExpired: it ended by itself.
	ReservationExpired = ReservationState(tenantauthv1.ReservationState_RESERVATION_STATE_EXPIRED)
)

// String returns the contract's name without its prefix, such as SETTLED.
func (s ReservationState) String() string {
	return enumName(tenantauthv1.ReservationState_name, int32(s), "RESERVATION_STATE_")
}

// ReserveRequest says what to set aside, and from whom.
type ReserveRequest struct {
	// Credential is who reserves: a [KeyQuery] or a [SessionQuery].
	Credential LimitCredential
	// Costs are what is set aside, at most: 1 to 16 amounts, each metric once.
	Costs []Cost
	// ReservationID identifies the reservation: 1 to 128 printable ASCII characters, unique per caller. If it is empty,
	// the client draws a random one.
	ReservationID string
	// ExpiresIn is the time after which the reservation ends by itself: 1 second to 24 hours. If zero, 10 minutes.
	ExpiresIn time.Duration
	// OnExpiry is what happens then.
	OnExpiry ReservationExpiry
}

// Reservation is the decision about a reservation, and its handle. It must be settled; [Reservation.Close] cancels it
// otherwise, and belongs into a defer statement.
type Reservation struct {
	// ID identifies the reservation, for [Client.SettleReservation] and [Client.CancelReservation].
	ID string
	// Verdict is as in [ConsumeResult]. Unless it is [Valid], nothing is set aside.
	Verdict Verdict
	// Validation is as in [ConsumeResult].
	Validation SessionValidation
	// Limits are as in [ConsumeResult].
	Limits []LimitDecision
	// ExpiresIn is the time after which the reservation ends by itself, counted from before the request was sent; zero
	// unless the verdict is [Valid].
	ExpiresIn time.Duration
	// AlreadyReserved reports whether an earlier call with this id had reserved the amounts. Limits is then empty.
	AlreadyReserved bool

	client *Client
	// isDone is true once the actual amounts were sent, or the reservation was cancelled.
	isDone atomic.Bool
}

// Allowed reports whether the request may proceed: the key or session is valid, and everything is set aside.
func (r *Reservation) Allowed() bool { return r.Verdict.IsValid() }

// Principal returns the admitted customer, or a [*Denied] error.
func (r *Reservation) Principal() (Principal, error) {
	return principalOf(r.Verdict, r.Validation, r.Limits)
}

// RetryAfter returns the time after which a retry can succeed, at the earliest, if a limit is exceeded. ok is false if no
// time is known.
func (r *Reservation) RetryAfter() (after time.Duration, ok bool) { return retryAfter(r.Limits) }

// Settle is [Client.SettleReservation] for this reservation. If nothing is set aside, it returns the [*Denied] error.
func (r *Reservation) Settle(ctx context.Context, actual ...Cost) (Settlement, error) {
	if _, err := r.Principal(); err != nil {
		return Settlement{}, err
	}
	settled, err := r.client.SettleReservation(ctx, r.ID, actual...)
	if !errors.Is(err, ErrInvalid) {
		// After an error whose outcome is unknown, cancelling could give back what was used.
		r.isDone.Store(true)
	}
	return settled, err
}

// Cancel is [Client.CancelReservation] for this reservation. If nothing is set aside, it returns the [*Denied] error.
func (r *Reservation) Cancel(ctx context.Context) (ReservationState, error) {
	if _, err := r.Principal(); err != nil {
		return 0, err
	}
	state, err := r.client.CancelReservation(ctx, r.ID)
	if err == nil {
		r.isDone.Store(true)
	}
	return state, err
}

// Close cancels the reservation, unless nothing is set aside, or it was settled or cancelled, or an attempt to settle it has
// failed. It takes at most the client's timeout. If it fails, the reservation ends at its expiry.
func (r *Reservation) Close() error {
	if !r.Allowed() || r.isDone.Load() {
		return nil
	}
	_, err := r.Cancel(context.Background())
	var known *Error
	if errors.As(err, &known) && known.Code == codes.FailedPrecondition && known.Kind == ErrOther {
		// It was settled by its id.
		return nil
	}
	return err
}

// Reserve validates a key or a session and sets amounts aside whose actual value is known only later, such as the tokens of a
// language model. If the verdict is [Valid], the reservation ends with Settle, with Cancel or Close, or at its expiry.
//
// The call is safe to repeat with the same ReservationID, and the client itself retries it. After [ErrDeadline], or
// [ErrUnavailable] after the connection was lost, the amounts may be set aside until the reservation expires.
func (c *Client) Reserve(ctx context.Context, request ReserveRequest) (*Reservation, error) {
	if err := c.gate.enter(); err != nil {
		return nil, err
	}
	defer c.gate.leave()
	return c.reserve(ctx, request)
}

func (c *Client) reserve(ctx context.Context, request ReserveRequest) (*Reservation, error) {
	caller, err := limitCallerOf(ctx, request.Credential)
	if err != nil {
		return nil, err
	}
	made := &Reservation{ID: request.ReservationID, Verdict: Malformed, Validation: malformedValidation(), client: c}
	if made.ID == "" {
		made.ID = newReservationID()
	}
	if caller.isMalformed {
		return made, nil
	}
	message := &tenantauthv1.ReserveRequest{
		Credential: caller.wire(), Costs: costsToWire(request.Costs), ReservationId: made.ID,
		OnExpiry: tenantauthv1.ReservationExpiry(request.OnExpiry),
	}
	if request.ExpiresIn != 0 {
		message.ExpiresIn = durationpb.New(request.ExpiresIn)
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.ReserveRequest, *tenantauthv1.ReserveResponse]{
		call: c.limits.Reserve, request: message, secrets: []string{string(caller.Key)},
	})
	if err != nil {
		return nil, err
	}
	found, err := c.decide(ctx, caller, reply)
	if err == nil {
		made.ExpiresIn, err = parseDuration(reply.GetExpiresIn())
	}
	if Verdict(reply.GetVerdict()).IsValid() && (err != nil || !found.verdict.IsValid()) {
		// The caller will not use it. An error is ignored: the reservation ends at its expiry.
		_, _ = c.cancel(ctx, made.ID)
	}
	if err != nil {
		return nil, err
	}
	made.Verdict, made.Validation, made.Limits, made.AlreadyReserved = found.verdict, found.validation, found.limits, reply.GetAlreadyReserved()
	return made, nil
}
