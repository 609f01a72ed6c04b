package httpauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Consumer takes amounts from limits: a *tenantauth.Client, or a replacement in tests.
type Consumer interface {
	Consume(ctx context.Context, request tenantauth.ConsumeRequest) (tenantauth.ConsumeResult, error)
}

// WithCosts sets what each request takes from the limits of its key: see [tenantauth.Client.Consume]. The middleware then
// consumes instead of validating, in one call, and requests that exceed a limit get 429. Responses have the headers
// RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), and handlers get the limits from
// [tenantauth.LimitsFrom].
//
// The validator must also be a [Consumer].
func WithCosts(costs ...tenantauth.Cost) Option {
	return func(m *Middleware) {
		costs := slices.Clone(costs)
		m.costs, m.errs = func(*http.Request) []tenantauth.Cost { return costs }, append(m.errs, admission.CheckCosts(costs))
	}
}

// WithCostsFunc is [WithCosts] for costs that depend on the request. A request for which the function returns no costs is
// only validated.
func WithCostsFunc(costs func(*http.Request) []tenantauth.Cost) Option {
	return func(m *Middleware) {
		if costs == nil {
			m.errs = append(m.errs, errors.New("WithCostsFunc(nil): must be a function"))
			return
		}
		m.costs = costs
	}
}

// limitName is the form of the names of limits. No character of it needs an escape in a structured field (RFC 9651).
var limitName = regexp.MustCompile(`^[a-z][a-z0-9_.-]*$`)

// maxInteger is the largest integer of a structured field.
const maxInteger = 999_999_999_999_999

// setLimits sets the headers that describe the limits: one item per limit, without shadow limits.
func setLimits(header http.Header, limits []tenantauth.LimitDecision) {
	var policies, states []string
	for _, limit := range limits {
		if limit.Shadow || !limitName.MatchString(limit.Name) {
			continue
		}
		policy := fmt.Sprintf(`"%s";q=%d`, limit.Name, integer(limit.Limit))
		if limit.Window > 0 {
			policy += fmt.Sprintf(";w=%d", integer(admission.Seconds(limit.Window)))
		}
		state := fmt.Sprintf(`"%s";r=%d`, limit.Name, integer(limit.Remaining))
		if limit.ResetAfter != nil {
			state += fmt.Sprintf(";t=%d", integer(admission.Seconds(*limit.ResetAfter)))
		}
		policies, states = append(policies, policy), append(states, state)
	}
	if len(policies) > 0 {
		header.Set("RateLimit-Policy", strings.Join(policies, ", "))
		header.Set("RateLimit", strings.Join(states, ", "))
	}
}

// integer limits a number to what a structured field can have.
func integer(number int64) int64 { return min(max(0, number), maxInteger) }
