package main

import (
	"context"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// taking has the arguments of the commands that take something from limits.
type taking struct {
	Key           tenantauth.Key `json:"key"`
	SessionID     *string        `json:"session_id"`
	Scopes        []string       `json:"scopes"`
	ClientAddress string         `json:"client_address"`
	Costs         []cost         `json:"costs"`
	ConsumeID     string         `json:"consume_id"`
	ReservationID string         `json:"reservation_id"`
	ExpiresInMS   int64          `json:"expires_in_ms"`
	OnExpiry      string         `json:"on_expiry"`
}

type cost struct {
	Metric string `json:"metric"`
	Amount int64  `json:"amount"`
}

var onExpiry = map[string]tenantauth.ReservationExpiry{"": tenantauth.ReleaseOnExpiry, "RELEASE": tenantauth.ReleaseOnExpiry, "CHARGE": tenantauth.ChargeOnExpiry}

func (t taking) credential() tenantauth.LimitCredential {
	if t.SessionID != nil {
		return tenantauth.SessionQuery{SessionID: *t.SessionID, Key: t.Key, Scopes: t.Scopes, ClientAddress: t.ClientAddress}
	}
	return tenantauth.KeyQuery{Key: t.Key, Scopes: t.Scopes, ClientAddress: t.ClientAddress}
}

func (t taking) request() tenantauth.ConsumeRequest {
	return tenantauth.ConsumeRequest{Credential: t.credential(), Costs: costs(t.Costs), ConsumeID: t.ConsumeID}
}

func costs(given []cost) (made []tenantauth.Cost) {
	for _, one := range given {
		made = append(made, tenantauth.Cost(one))
	}
	return made
}

func consume(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	result, err := client.Consume(ctx, c.taking().request())
	return consumed(result), err
}

func consumeMany(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	requests := make([]tenantauth.ConsumeRequest, 0, len(c.Requests))
	for _, one := range c.Requests {
		requests = append(requests, one.request())
	}
	outcomes, err := client.ConsumeMany(ctx, requests)
	items := make([]answer, 0, len(outcomes))
	for _, outcome := range outcomes {
		if outcome.Err != nil {
			items = append(items, failure(outcome.Err))
		} else {
			items = append(items, consumed(outcome.ConsumeResult))
		}
	}
	return answer{"items": items}, err
}

func reserve(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	given := c.taking()
	reservation, err := client.Reserve(ctx, tenantauth.ReserveRequest{
		Credential: given.credential(), Costs: costs(given.Costs), ReservationID: given.ReservationID,
		ExpiresIn: time.Duration(given.ExpiresInMS) * time.Millisecond, OnExpiry: onExpiry[given.OnExpiry],
	})
	if err != nil {
		return nil, err
	}
	made := decision(reservation.Verdict, reservation.Validation, reservation.Limits)
	made["reservation_id"] = reservation.ID
	made["already_reserved"] = reservation.AlreadyReserved
	made["expires_in_ms"] = nil
	if reservation.Allowed() {
		made["expires_in_ms"] = milliseconds(reservation.ExpiresIn)
	}
	return made, nil
}

func settle(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	settled, err := client.SettleReservation(ctx, c.ReservationID, costs(c.Actual)...)
	limits := []answer{}
	for _, limit := range settled.Limits {
		limits = append(limits, answer{
			"name": limit.Name, "metric": limit.Metric, "reserved": limit.Reserved, "charged": limit.Charged, "exceeded_by": limit.ExceededBy,
		})
	}
	return answer{"state": settled.State.String(), "already_settled": settled.AlreadySettled, "limits": limits}, err
}

func cancel(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	state, err := client.CancelReservation(ctx, c.ReservationID)
	return answer{"state": state.String()}, err
}

func limitState(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	read, id := client.TenantLimitState, c.TenantID
	if c.KeyID != "" {
		read, id = client.KeyLimitState, c.KeyID
	}
	states, err := read(ctx, id)
	limits := []answer{}
	for _, state := range states {
		limits = append(limits, answer{
			"name": state.Limit.GetName(), "metric": state.Limit.GetMetric(), "used": state.Used, "leased": state.Leased, "reserved": state.Reserved,
			"unaccounted": state.Unaccounted, "remaining": state.Remaining, "reset_after_ms": optionalMilliseconds(state.ResetAfter),
		})
	}
	return answer{"limits": limits}, err
}

func consumed(result tenantauth.ConsumeResult) answer {
	made := decision(result.Verdict, result.Validation, result.Limits)
	made["already_consumed"] = result.AlreadyConsumed
	return made
}

// decision describes what Consume and Reserve have in common.
func decision(verdict tenantauth.Verdict, validation tenantauth.SessionValidation, decisions []tenantauth.LimitDecision) answer {
	made := describedSession(validation)
	limits := []answer{}
	for _, limit := range decisions {
		window := any(nil)
		if limit.Window > 0 {
			window = milliseconds(limit.Window)
		}
		limits = append(limits, answer{
			"name": limit.Name, "metric": limit.Metric, "limit": limit.Limit, "remaining": limit.Remaining, "window_ms": window,
			"reset_after_ms": optionalMilliseconds(limit.ResetAfter), "retry_after_ms": optionalMilliseconds(limit.RetryAfter),
			"decided_by": limit.DecidedBy.String(), "exceeded": limit.Exceeded, "shadow": limit.Shadow,
		})
	}
	made["verdict"], made["allowed"], made["limits"] = verdict.String(), verdict.IsValid(), limits
	return made
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

func optionalMilliseconds(d *time.Duration) any {
	if d == nil {
		return nil
	}
	return milliseconds(*d)
}
