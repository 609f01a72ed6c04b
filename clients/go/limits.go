package tenantauth

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Cost is an amount of a metric, such as one request or a thousand tokens.
type Cost struct {
	// Metric is the name of the metric, as in [UsageEvent].
	Metric string
	// Amount is the amount, in the unit of the metric: 1 to 1,000,000,000. An actual amount may also be 0.
	Amount int64
}

// LimitDecision is what one limit says about a request.
type LimitDecision struct {
	// Name is the name of the limit.
	Name string
	// Metric is the metric that it limits.
	Metric string
	// Limit is the amount of a quota, the capacity of a rate's bucket, or the balance of credits when it was last read.
	Limit int64
	// Remaining is what is left, at least; zero if nothing is left or nothing is known.
	Remaining int64
	// Window is the length of a quota's window, or the time in which an empty bucket of a rate fills; zero for credits.
	Window time.Duration
	// ResetAfter is the time until the window ends, the bucket is full, or the credits are refilled; nil if nothing is
	// added by itself.
	ResetAfter *time.Duration
	// RetryAfter is the time after which a retry can succeed, at the earliest, if the limit is exceeded; nil if no time
	// is known.
	RetryAfter *time.Duration
	// DecidedBy is where it was decided.
	DecidedBy DecidedBy
	// Exceeded reports whether the limit has less left than the request costs.
	Exceeded bool
	// Shadow limits are counted and reported, and never deny a request.
	Shadow bool
	// WindowStart is the start of the window that the amount is counted in; zero for credits and rates.
	WindowStart time.Time
}

// Denies reports whether the limit is a reason for a denial.
func (d LimitDecision) Denies() bool { return d.Exceeded && !d.Shadow }

// DecidedBy is where a limit was decided.
type DecidedBy int32

// The values of the contract.
const (
	// DecidedByLease: from the lease of the replica, or from what the database said when it last refused.
	DecidedByLease = DecidedBy(tenantauthv1.DecidedBy_DECIDED_BY_LEASE)
	// DecidedByDatabase: by the database, for this request.
	DecidedByDatabase = DecidedBy(tenantauthv1.DecidedBy_DECIDED_BY_DATABASE)
	// DecidedByLocalShare: from the lease of the replica while the database does not respond.
	DecidedByLocalShare = DecidedBy(tenantauthv1.DecidedBy_DECIDED_BY_LOCAL_SHARE)
	// DecidedByOutagePolicy: the limit was not checked, because it admits while the database does not respond.
	DecidedByOutagePolicy = DecidedBy(tenantauthv1.DecidedBy_DECIDED_BY_OUTAGE_POLICY)
)

// String returns the contract's name without its prefix, such as LOCAL_SHARE.
func (d DecidedBy) String() string {
	return enumName(tenantauthv1.DecidedBy_name, int32(d), "DECIDED_BY_")
}

// retryAfter returns the time after which no limit denies, at the earliest. ok is false if it is not known of one of them.
func retryAfter(limits []LimitDecision) (longest time.Duration, ok bool) {
	for _, limit := range limits {
		if !limit.Denies() {
			continue
		}
		if limit.RetryAfter == nil {
			return 0, false
		}
		longest, ok = max(longest, *limit.RetryAfter), true
	}
	return longest, ok
}

type limitsKey struct{}

// ContextWithLimits returns a context that carries what the limits say about a request.
func ContextWithLimits(ctx context.Context, limits []LimitDecision) context.Context {
	return context.WithValue(ctx, limitsKey{}, limits)
}

// LimitsFrom returns what the limits say about the request: a middleware or an interceptor with costs adds it to the
// context. ok is false if nothing was consumed for the request.
func LimitsFrom(ctx context.Context) (limits []LimitDecision, ok bool) {
	limits, ok = ctx.Value(limitsKey{}).([]LimitDecision)
	return limits, ok
}

func costsToWire(costs []Cost) []*tenantauthv1.Cost {
	messages := make([]*tenantauthv1.Cost, len(costs))
	for index, cost := range costs {
		messages[index] = &tenantauthv1.Cost{Metric: cost.Metric, Amount: cost.Amount}
	}
	return messages
}

func decisionsFromWire(messages []*tenantauthv1.LimitDecision) ([]LimitDecision, error) {
	decisions := make([]LimitDecision, len(messages))
	for index, message := range messages {
		var err error
		if decisions[index], err = decisionFromWire(message); err != nil {
			return nil, err
		}
	}
	return decisions, nil
}

func decisionFromWire(message *tenantauthv1.LimitDecision) (LimitDecision, error) {
	window, err := parseDuration(message.GetWindow())
	if err != nil {
		return LimitDecision{}, err
	}
	resetAfter, err := parseOptionalDuration(message.GetResetAfter())
	if err != nil {
		return LimitDecision{}, err
	}
	retryAfter, err := parseOptionalDuration(message.GetRetryAfter())
	if err != nil {
		return LimitDecision{}, err
	}
	windowStart, err := parseTime(message.GetWindowStart())
	if err != nil {
		return LimitDecision{}, err
	}
	return LimitDecision{
		Name:        message.GetName(),
		Metric:      message.GetMetric(),
		Limit:       message.GetLimit(),
		Remaining:   message.GetRemaining(),
		Window:      window,
		ResetAfter:  resetAfter,
		RetryAfter:  retryAfter,
		DecidedBy:   DecidedBy(message.GetDecidedBy()),
		Exceeded:    message.GetExceeded(),
		Shadow:      message.GetShadow(),
		WindowStart: windowStart,
	}, nil
}

// parseOptionalDuration converts a duration of a response of which absent and zero mean different things.
func parseOptionalDuration(message *durationpb.Duration) (*time.Duration, error) {
	if message == nil {
		return nil, nil
	}
	parsed, err := parseDuration(message)
	return &parsed, err
}
