package grpcauth

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// costsFunc returns the costs of a call of a method, such as /orders.v1.Orders/List. request is nil for a stream.
type costsFunc = func(ctx context.Context, method string, request any) []tenantauth.Cost

// Consumer takes amounts from limits: a *tenantauth.Client, or a replacement in tests.
type Consumer interface {
	Consume(ctx context.Context, request tenantauth.ConsumeRequest) (tenantauth.ConsumeResult, error)
}

// WithCosts sets what each call takes from the limits of its key: see [tenantauth.Client.Consume]. The interceptor then
// consumes instead of validating, in one call. Calls that exceed a limit get RESOURCE_EXHAUSTED with a QuotaFailure, and with
// a RetryInfo if it is known when a retry can succeed. A stream has the costs once, when it opens. Handlers get the limits
// from [tenantauth.LimitsFrom].
//
// The validator must also be a [Consumer].
func WithCosts(costs ...tenantauth.Cost) Option {
	return func(i *Interceptor) {
		costs := slices.Clone(costs)
		i.costs = func(context.Context, string, any) []tenantauth.Cost { return costs }
		i.errs = append(i.errs, admission.CheckCosts(costs))
	}
}

// WithCostsFunc is [WithCosts] for costs that depend on the call. request is the message of a unary call, and nil for a
// stream. A call for which the function returns no costs is only validated.
func WithCostsFunc(costs func(ctx context.Context, method string, request any) []tenantauth.Cost) Option {
	return func(i *Interceptor) {
		if costs == nil {
			i.errs = append(i.errs, errors.New("WithCostsFunc(nil): must be a function"))
			return
		}
		i.costs = costs
	}
}

// quotaFailure names the limits that deny a call.
func quotaFailure(reply admission.Reply) *errdetails.QuotaFailure {
	failure := &errdetails.QuotaFailure{}
	for _, limit := range reply.Exceeded {
		failure.Violations = append(failure.Violations, &errdetails.QuotaFailure_Violation{
			Subject:     reply.Subject,
			Description: fmt.Sprintf("The limit %s of the metric %s is exceeded.", limit.Name, limit.Metric),
		})
	}
	return failure
}
