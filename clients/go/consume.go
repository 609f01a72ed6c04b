package tenantauth

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// maxBatchConsume is the contract's maximum number of entries per call.
const maxBatchConsume = 1_000

// ConsumeRequest says what to take, and from whom.
type ConsumeRequest struct {
	// Credential is who takes it: a [KeyQuery] or a [SessionQuery].
	Credential LimitCredential
	// Costs are what is taken: 1 to 16 amounts, each metric once. A metric without a limit is admitted.
	Costs []Cost
	// ConsumeID makes a retry within 24 hours count once: 1 to 128 printable ASCII characters, unique per caller. If it
	// is empty, the client does not repeat a request that may have reached the service.
	ConsumeID string
}

// ConsumeResult is the decision about a key or session and its limits.
type ConsumeResult struct {
	// Verdict is [Valid] if everything was taken, [QuotaExceeded] or [RateLimited] if the key or session is valid and a
	// limit is exceeded, otherwise the verdict of the validation. Unless it is [Valid], nothing was taken.
	Verdict Verdict
	// Validation is the validation of the key or session; for a key, only its field Validation is set. It is [Valid] if a
	// limit decided.
	Validation SessionValidation
	// Limits are what the limits that apply to the costs say, in the order of their names.
	Limits []LimitDecision
	// AlreadyConsumed reports whether an earlier call with this ConsumeID had taken the amounts. Limits is then empty.
	AlreadyConsumed bool
}

// Allowed reports whether the request may proceed: the key or session is valid, and everything was taken.
func (r ConsumeResult) Allowed() bool { return r.Verdict.IsValid() }

// Principal returns the admitted customer, or a [*Denied] error.
func (r ConsumeResult) Principal() (Principal, error) {
	return principalOf(r.Verdict, r.Validation, r.Limits)
}

// RetryAfter returns the time after which a retry can succeed, at the earliest, if a limit is exceeded. ok is false if no
// time is known, such as for credits without a refill.
func (r ConsumeResult) RetryAfter() (after time.Duration, ok bool) { return retryAfter(r.Limits) }

// principalOf returns the customer that both the validation and the limits admit.
func principalOf(verdict Verdict, validation SessionValidation, limits []LimitDecision) (Principal, error) {
	if !verdict.IsValid() {
		return Principal{}, &Denied{
			Verdict: verdict, MissingScopes: validation.MissingScopes, Limits: limits, Provenance: validation.Provenance,
		}
	}
	return validation.Principal()
}

// ConsumeOutcome is the decision about one request of a batch, or its error.
type ConsumeOutcome struct {
	ConsumeResult
	// Err is nil if the request was decided.
	Err error
}

// Consume validates a key or a session and takes amounts from its limits, in one decision. The near cache is not used.
//
// If it returns [ErrDeadline], or [ErrUnavailable] after the connection was lost, the amounts may have been taken. With a
// ConsumeID the same call can be repeated, and the client itself retries it.
func (c *Client) Consume(ctx context.Context, request ConsumeRequest) (ConsumeResult, error) {
	if err := c.gate.enter(); err != nil {
		return ConsumeResult{}, err
	}
	defer c.gate.leave()
	caller, err := limitCallerOf(ctx, request.Credential)
	if err != nil {
		return ConsumeResult{}, err
	}
	if caller.isMalformed {
		return malformedResult(), nil
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.ConsumeRequest, *tenantauthv1.ConsumeResponse]{
		call: c.limits.Consume, request: request.wire(caller), sentOnce: request.ConsumeID == "", secrets: []string{string(caller.Key)},
	})
	if err != nil {
		return ConsumeResult{}, err
	}
	return c.consumeResult(ctx, caller, reply)
}

// ConsumeMany is [Client.Consume] for 1 to 1,000 requests in one call. Each is decided by itself. The outcomes are in the
// order of the requests. The returned error concerns the whole call; a request that cannot be decided has an error of its
// own. The client repeats the call only if all requests have a ConsumeID.
func (c *Client) ConsumeMany(ctx context.Context, requests []ConsumeRequest) ([]ConsumeOutcome, error) {
	if err := c.gate.enter(); err != nil {
		return nil, err
	}
	defer c.gate.leave()
	if len(requests) > maxBatchConsume {
		return nil, invalidField("requests", fmt.Sprintf("has %d entries; at most %d are allowed in one call", len(requests), maxBatchConsume))
	}
	batch := rpc[*tenantauthv1.BatchConsumeRequest, *tenantauthv1.BatchConsumeResponse]{
		call: c.limits.BatchConsume, request: &tenantauthv1.BatchConsumeRequest{},
	}
	outcomes := make([]ConsumeOutcome, len(requests))
	var indexes []int
	var callers []limitCaller
	for index, request := range requests {
		caller, err := limitCallerOf(ctx, request.Credential)
		switch {
		case err != nil:
			outcomes[index].Err = err
			continue
		case caller.isMalformed:
			outcomes[index].ConsumeResult = malformedResult()
			continue
		}
		message := request.wire(caller)
		if _, err := proto.Marshal(message); err != nil {
			// The whole batch could not be sent.
			outcomes[index].Err = invalidField("request", "contains text that is not valid UTF-8")
			continue
		}
		indexes, callers = append(indexes, index), append(callers, caller)
		batch.request.Requests = append(batch.request.Requests, message)
		batch.sentOnce = batch.sentOnce || request.ConsumeID == ""
		batch.secrets = append(batch.secrets, string(caller.Key))
	}
	if len(indexes) == 0 && len(requests) > 0 {
		return outcomes, nil
	}
	reply, err := callWithRetries(ctx, c, batch)
	if err != nil {
		return nil, err
	}
	// Results are matched by index, so a wrong number of results could assign a decision to the wrong request.
	if len(reply.GetResults()) != len(indexes) {
		return nil, invalidReply(fmt.Sprintf("the response has %d results for %d requests", len(reply.GetResults()), len(indexes)))
	}
	for position, result := range reply.GetResults() {
		outcomes[indexes[position]] = c.consumeOutcome(ctx, callers[position], result)
	}
	return outcomes, nil
}

func (c *Client) consumeOutcome(ctx context.Context, caller limitCaller, result *tenantauthv1.BatchConsumeResult) ConsumeOutcome {
	switch result := result.GetResult().(type) {
	case *tenantauthv1.BatchConsumeResult_Response:
		made, err := c.consumeResult(ctx, caller, result.Response)
		return ConsumeOutcome{ConsumeResult: made, Err: err}
	case *tenantauthv1.BatchConsumeResult_Error:
		return ConsumeOutcome{Err: errorFrom(status.FromProto(result.Error), "", []string{string(caller.Key)})}
	default:
		return ConsumeOutcome{Err: invalidReply("the response contains no result for a request")}
	}
}

func (c *Client) consumeResult(ctx context.Context, caller limitCaller, reply *tenantauthv1.ConsumeResponse) (ConsumeResult, error) {
	made, err := c.decide(ctx, caller, reply)
	if err != nil {
		return ConsumeResult{}, err
	}
	return ConsumeResult{
		Verdict: made.verdict, Validation: made.validation, Limits: made.limits, AlreadyConsumed: reply.GetAlreadyConsumed(),
	}, nil
}

// malformedResult is the decision about a text that cannot be sent as a key.
func malformedResult() ConsumeResult {
	return ConsumeResult{Verdict: Malformed, Validation: malformedValidation()}
}

func malformedValidation() SessionValidation {
	return SessionValidation{Validation: Validation{Verdict: Malformed}}
}

func (r ConsumeRequest) wire(caller limitCaller) *tenantauthv1.ConsumeRequest {
	return &tenantauthv1.ConsumeRequest{Credential: caller.wire(), Costs: costsToWire(r.Costs), ConsumeId: r.ConsumeID}
}
