package tenantauth

import (
	"context"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Settlement is the result of settling a reservation.
type Settlement struct {
	// State is [ReservationSettled], or [ReservationCancelled] if the reservation was cancelled before.
	State ReservationState
	// Limits has one entry per limit of the reservation.
	Limits []SettledLimit
	// AlreadySettled reports whether an earlier call had settled it. Limits is then the result of that call.
	AlreadySettled bool
}

// SettledLimit is the result of settling for one limit.
type SettledLimit struct {
	// Name is the name of the limit.
	Name string
	// Metric is the metric that it limits.
	Metric string
	// Reserved is the amount that was reserved.
	Reserved int64
	// Charged is the amount that counts now.
	Charged int64
	// ExceededBy is the part of the actual amount for which the limit had nothing left.
	ExceededBy int64
}

// SettleReservation replaces the reserved amounts with the actual ones, 0 to 1,000,000,000 each. A metric that is missing
// counts as reserved. If an actual amount is larger than the reserved one, the difference is taken as far as the limit
// permits. The call is safe to repeat: the first one decides.
func (c *Client) SettleReservation(ctx context.Context, reservationID string, actual ...Cost) (Settlement, error) {
	if err := c.gate.enter(); err != nil {
		return Settlement{}, err
	}
	defer c.gate.leave()
	return c.settle(ctx, reservationID, actual...)
}

func (c *Client) settle(ctx context.Context, reservationID string, actual ...Cost) (Settlement, error) {
	request := &tenantauthv1.SettleRequest{ReservationId: reservationID}
	for _, cost := range actual {
		request.Actual = append(request.Actual, &tenantauthv1.SettledCost{Metric: cost.Metric, Amount: cost.Amount})
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.SettleRequest, *tenantauthv1.SettleResponse]{call: c.limits.Settle, request: request})
	if err != nil {
		return Settlement{}, err
	}
	made := Settlement{State: ReservationState(reply.GetState()), AlreadySettled: reply.GetAlreadySettled()}
	for _, limit := range reply.GetLimits() {
		made.Limits = append(made.Limits, SettledLimit{
			Name: limit.GetName(), Metric: limit.GetMetric(),
			Reserved: limit.GetReserved(), Charged: limit.GetCharged(), ExceededBy: limit.GetExceededBy(),
		})
	}
	return made, nil
}

// CancelReservation gives all reserved amounts back. The state is [ReservationCancelled], or [ReservationExpired] if the
// reservation had ended by itself. The call is safe to repeat. It fails if the reservation does not exist (the code of the
// [Error] is NOT_FOUND) or was settled (FAILED_PRECONDITION).
func (c *Client) CancelReservation(ctx context.Context, reservationID string) (ReservationState, error) {
	if err := c.gate.enter(); err != nil {
		return 0, err
	}
	defer c.gate.leave()
	return c.cancel(ctx, reservationID)
}

func (c *Client) cancel(ctx context.Context, reservationID string) (ReservationState, error) {
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.CancelRequest, *tenantauthv1.CancelResponse]{
		call: c.limits.Cancel, request: &tenantauthv1.CancelRequest{ReservationId: reservationID},
	})
	return ReservationState(reply.GetState()), err
}
