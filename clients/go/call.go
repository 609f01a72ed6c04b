package tenantauth

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

// retryBackoff is short because an end user waits for the result.
var retryBackoff = retry.Backoff{First: 50 * time.Millisecond, Max: time.Second}

const requestIDHeader = "x-request-id"

// method is an RPC method of the generated client.
type method[Request, Response any] func(context.Context, Request, ...grpc.CallOption) (Response, error)

// rpc is one RPC, which may be sent several times.
type rpc[Request, Response any] struct {
	call    method[Request, Response]
	request Request
	// readOnly RPCs change nothing and may be sent to two replicas at once.
	readOnly bool
	// sentOnce RPCs must not be repeated once they may have reached the service: they would count twice.
	sentOnce bool
	// secrets occur in the request and must not appear in an error.
	secrets []string
}

// attemptResult is the result of one attempt.
type attemptResult[Response any] struct {
	response Response
	err      *Error
	// connectionLost is true if the attempt was sent and its connection ended without a response from the server.
	connectionLost bool
}

// withTimeout adds the client's default timeout to a context without a deadline.
func (c *Client) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.options.timeout)
}

// hedgeAfter returns the time after which an unanswered attempt is also sent to another replica.
func (c *Client) hedgeAfter(ctx context.Context) time.Duration {
	if c.options.hedgeAfter > 0 {
		return c.options.hedgeAfter
	}
	deadline, _ := ctx.Deadline()
	return time.Until(deadline) / 4
}

// callWithRetries makes an RPC and retries it while a retry may help and the deadline allows it. All RPCs made here are
// safe to repeat, except those that are marked as sentOnce.
func callWithRetries[Request, Response any](ctx context.Context, c *Client, request rpc[Request, Response]) (Response, error) {
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	c.budget.Deposit()
	hedgeAfter := c.hedgeAfter(ctx)
	var earlier []*replicas.Attempt
	for attempt := 1; ; attempt++ {
		result, sent := callHedged(ctx, c, request, hedgeAfter, earlier)
		if result.err == nil {
			return result.response, nil
		}
		if attempt >= c.options.attempts || !isRetryable(result.err) || ctx.Err() != nil || request.sentOnce && wasSent(sent) {
			return result.response, result.err
		}
		earlier = sent
		near.ReportRetry(ctx, result.err)
		if result.connectionLost && c.pool.HasOther(sent[len(sent)-1]) {
			// The lost attempt did no work for this call. Another one adds no extra load, so it needs neither a delay
			// nor budget.
			continue
		}
		delay := result.err.RetryAfter + retryBackoff.Delay(attempt)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
			return result.response, result.err
		}
		if !c.budget.TryWithdraw() || clock.Sleep(ctx, c.options.clock, delay) != nil {
			return result.response, result.err
		}
	}
}

// wasSent reports whether one of the attempts may have reached a replica.
func wasSent(attempts []*replicas.Attempt) bool {
	return slices.ContainsFunc(attempts, func(attempt *replicas.Attempt) bool { return attempt.Replica() != nil })
}

// callHedged makes one attempt. If the response is late, it checks the liveness of the replica and, for a read-only
// RPC, also sends the request to another replica; the first response wins. It returns all attempts that were sent, the
// first one last.
func callHedged[Request, Response any](
	ctx context.Context, c *Client, request rpc[Request, Response], hedgeAfter time.Duration, earlier []*replicas.Attempt,
) (attemptResult[Response], []*replicas.Attempt) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	earlier = slices.Clip(earlier)
	firstCtx, first := replicas.NewAttempt(ctx, earlier...)
	firstCtx, cancelFirst := context.WithCancel(firstCtx)
	defer cancelFirst()
	var second *replicas.Attempt
	var hedged attemptResult[Response]
	done := make(chan struct{})
	hedge := func() {
		defer close(done)
		c.pool.CheckLiveness(first)
		if !request.readOnly || first.Replica() == nil || !c.pool.HasOther(first) || !c.budget.TryWithdraw() {
			return
		}
		var secondCtx context.Context
		secondCtx, second = replicas.NewAttemptElsewhere(ctx, append(earlier, first)...)
		if hedged = callOnce(secondCtx, second, request); hedged.isFinal() {
			cancelFirst()
		}
	}
	stop := c.onLate(first, hedgeAfter, hedge)
	result := callOnce(firstCtx, first, request)
	if stop() || result.err == nil {
		return result, append(earlier, first)
	}
	if result.isFinal() && result.err.Code != codes.Canceled {
		return result, append(earlier, first)
	}
	<-done
	if second == nil {
		return result, append(earlier, first)
	}
	if hedged.isFinal() {
		result = hedged
	}
	return result, append(earlier, second, first)
}

// onLate calls do if the attempt has not been stopped within the given time after it was sent. The time counts from
// sending because the wait for a connection says nothing about a replica. stop reports whether it prevented the call of
// do.
func (c *Client) onLate(attempt *replicas.Attempt, after time.Duration, do func()) (stop func() bool) {
	var mu sync.Mutex
	stopped, stopTimer := false, func() bool { return true }
	attempt.OnSent(func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			stopTimer = c.options.clock.AfterFunc(after, func() { go do() })
		}
	})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		return stopTimer()
	}
}

func callOnce[Request, Response any](ctx context.Context, attempt *replicas.Attempt, request rpc[Request, Response]) attemptResult[Response] {
	var header, trailer metadata.MD
	response, err := request.call(ctx, request.request, grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil {
		return attemptResult[Response]{response: response}
	}
	// If a call ends immediately, its headers are in the trailer.
	var requestID string
	if ids := append(header.Get(requestIDHeader), trailer.Get(requestIDHeader)...); len(ids) > 0 {
		requestID = ids[0]
	}
	received, _ := status.FromError(err)
	if message, ok := any(request.request).(proto.Message); ok && received.Code() == codes.Internal {
		if _, err := proto.Marshal(message); err != nil {
			// gRPC could not encode the request, and a retry would fail in the same way.
			return attemptResult[Response]{response: response, err: invalidField("request", "contains text that is not valid UTF-8")}
		}
	}
	result := attemptResult[Response]{response: response, err: errorFrom(received, requestID, request.secrets)}
	result.connectionLost = result.err.Kind == ErrUnavailable && attempt.Replica() != nil && len(header)+len(trailer) == 0
	return result
}

// isFinal reports whether every other replica would give the same result.
func (o attemptResult[Response]) isFinal() bool { return o.err == nil || !isRetryable(o.err) }

// isRetryable reports whether another replica, or the same one later, may succeed. An overloaded service that gives no
// retry delay is not retried, to avoid adding load.
func isRetryable(err *Error) bool {
	return err.Kind == ErrUnavailable || err.Kind == ErrOverloaded && err.RetryAfter > 0
}
