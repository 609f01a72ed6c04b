package admission

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// Validator validates keys.
type Validator interface {
	ValidateKey(ctx context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error)
}

// Consumer takes amounts from limits.
type Consumer interface {
	Consume(ctx context.Context, request tenantauth.ConsumeRequest) (tenantauth.ConsumeResult, error)
}

// CheckCosts returns an error if requests cannot have these costs.
func CheckCosts(costs []tenantauth.Cost) error {
	if len(costs) == 0 {
		return errors.New("WithCosts(): must have at least one cost, such as {Metric: \"api.calls\", Amount: 1}")
	}
	for _, cost := range costs {
		if cost.Metric == "" || cost.Amount < 1 {
			return errors.New("WithCosts: each cost must have a metric and an amount of 1 or more")
		}
	}
	return nil
}

// ConsumerIn returns the validator as a consumer.
func ConsumerIn(validator Validator) (Consumer, error) {
	consumer, ok := validator.(Consumer)
	if !ok {
		return nil, errors.New("WithCosts: the validator cannot take amounts from limits; use a *tenantauth.Client")
	}
	return consumer, nil
}

// Decide validates the key of a request, and takes its costs. Without costs, it only validates.
func Decide(
	ctx context.Context, validator Validator, key tenantauth.Key, scopes []string, costs []tenantauth.Cost,
) (tenantauth.ConsumeResult, error) {
	if len(costs) == 0 {
		validation, err := validator.ValidateKey(ctx, key, scopes...)
		return tenantauth.ConsumeResult{
			Verdict: validation.Verdict, Validation: tenantauth.SessionValidation{Validation: validation},
		}, err
	}
	consumer, err := ConsumerIn(validator)
	if err != nil {
		return tenantauth.ConsumeResult{}, err
	}
	return consumer.Consume(ctx, tenantauth.ConsumeRequest{
		Credential: tenantauth.KeyQuery{Key: key, Scopes: scopes}, Costs: costs,
	})
}

// ReplyForResult is the reply to a request with a key and with costs.
func ReplyForResult(result tenantauth.ConsumeResult, err error) Reply {
	validation := result.Validation.Validation
	validation.Verdict = result.Verdict
	reply := ReplyFor(validation, err)
	if reply.Class != Throttled || len(result.Limits) == 0 {
		return reply
	}
	reply.Exceeded = slices.DeleteFunc(slices.Clone(result.Limits), func(limit tenantauth.LimitDecision) bool { return !limit.Denies() })
	reply.Subject = subjectOf(validation)
	var names []string
	for _, limit := range reply.Exceeded {
		names = append(names, limit.Name)
	}
	reply.Detail = "A limit is exceeded: " + strings.Join(names, ", ") + "."
	reply.RetryAfter = 0
	if after, ok := result.RetryAfter(); ok {
		reply.RetryAfter = max(time.Second, after)
	}
	return reply
}

// subjectOf returns whose limits apply to a key.
func subjectOf(validation tenantauth.Validation) string {
	if validation.TenantID == "" {
		return "key:" + validation.KeyID
	}
	return "tenant:" + validation.TenantID
}

// Seconds returns the whole seconds of a duration, rounded up, so that a client does not retry too early.
func Seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
