package tenantauth

import (
	"context"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// LimitState is a limit and what is used of it, in the database's view.
type LimitState struct {
	// Limit is the limit, as the AdminService has it.
	Limit *tenantauthv1.Limit
	// Used is what was admitted and is counted in the current window; of a rate, what is missing in the bucket.
	Used int64
	// Leased is what replicas hold in leases. It may still be admitted, or be given back.
	Leased int64
	// Reserved is what reservations hold.
	Reserved int64
	// Unaccounted is what replicas held that ended without saying how much of it they had admitted. It counts as used.
	Unaccounted int64
	// Remaining is what no replica holds.
	Remaining int64
	// WindowStart is the start of the current window; zero for credits and rates.
	WindowStart time.Time
	// ResetAfter is the time until the window ends, or until the next refill; nil if nothing is added by itself.
	ResetAfter *time.Duration
}

// TenantLimitState reads the limits of a tenant and what is used of them from the database, in the order of their names.
// If the tenant does not exist, the code of the [Error] is NOT_FOUND.
func (c *Client) TenantLimitState(ctx context.Context, tenantID string) ([]LimitState, error) {
	return c.limitState(ctx, &tenantauthv1.GetLimitStateRequest{Subject: &tenantauthv1.GetLimitStateRequest_TenantId{TenantId: tenantID}})
}

// KeyLimitState is [Client.TenantLimitState] for a key, by its public id: its own limits, and those of its tenant.
func (c *Client) KeyLimitState(ctx context.Context, keyID string) ([]LimitState, error) {
	return c.limitState(ctx, &tenantauthv1.GetLimitStateRequest{Subject: &tenantauthv1.GetLimitStateRequest_KeyId{KeyId: keyID}})
}

func (c *Client) limitState(ctx context.Context, request *tenantauthv1.GetLimitStateRequest) ([]LimitState, error) {
	if err := c.gate.enter(); err != nil {
		return nil, err
	}
	defer c.gate.leave()
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.GetLimitStateRequest, *tenantauthv1.GetLimitStateResponse]{
		call: c.limits.GetLimitState, request: request, readOnly: true,
	})
	if err != nil {
		return nil, err
	}
	states := make([]LimitState, len(reply.GetLimits()))
	for index, message := range reply.GetLimits() {
		windowStart, err := parseTime(message.GetWindowStart())
		if err != nil {
			return nil, err
		}
		resetAfter, err := parseOptionalDuration(message.GetResetAfter())
		if err != nil {
			return nil, err
		}
		states[index] = LimitState{
			Limit: message.GetLimit(), Used: message.GetUsed(), Leased: message.GetLeased(), Reserved: message.GetReserved(),
			Unaccounted: message.GetUnaccounted(), Remaining: message.GetRemaining(), WindowStart: windowStart, ResetAfter: resetAfter,
		}
	}
	return states, nil
}
