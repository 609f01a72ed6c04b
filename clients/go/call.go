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

// retryBackoff is short: a caller with a customer waits.
var retryBackoff = retry.Backoff{First: 50 * time.Millisecond, Max: time.Second}

const requestIDHeader = "x-request-id"

// method is a call of the generated code.
type method[Request, Response any] func(context.Context, Request, ...grpc.CallOption) (Response, error)

// question is one call of the service, however often it is sent.
type question[Request, Response any] struct {
	call    method[Request, Response]
	request Request
	// reads calls change nothing, and may be sent to two replicas at once.
	reads bool
	// secrets are in the request, and must not get into an error.
	secrets []string
}

// outcome is what became of one attempt.
type outcome[Response any] struct {
	response Response
	err      *Error
	// lost attempts were sent and ended with their connection, without a word of the service.
	lost bool
}

// limit gives a context without a deadline the client's own.
func (c *Client) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.options.timeout)
}

// hedgeAfter is when an attempt without an answer is sent to another replica, too.
func (c *Client) hedgeAfter(ctx context.Context) time.Duration {
	if c.options.hedgeAfter > 0 {
		return c.options.hedgeAfter
	}
	deadline, _ := ctx.Deadline()
	return time.Until(deadline) / 4
}

// invoke makes a call, and makes it again while that may help and there is time. All of the contract's calls that are
// made here may be repeated.
func invoke[Request, Response any](ctx context.Context, c *Client, asked question[Request, Response]) (Response, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	c.budget.Called()
	hedgeAfter := c.hedgeAfter(ctx)
	var earlier []*replicas.Attempt
	for attempt := 1; ; attempt++ {
		made, sent := try(ctx, c, asked, hedgeAfter, earlier)
		if made.err == nil {
			return made.response, nil
		}
		if attempt >= c.options.attempts || !repeatable(made.err) || ctx.Err() != nil {
			return made.response, made.err
		}
		earlier = sent
		near.Note(ctx, made.err)
		if made.lost && c.pool.HasOther(sent[len(sent)-1]) {
			// The one that was lost did nothing for this call, so this is no more load than was meant to be: no wait, and no budget.
			continue
		}
		wait := made.err.RetryAfter + retryBackoff.Wait(attempt)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return made.response, made.err
		}
		if !c.budget.Take() || clock.Sleep(ctx, c.options.clock, wait) != nil {
			return made.response, made.err
		}
	}
}

// try makes one attempt. One that is not answered soon puts its replica in doubt, and if it only reads, it is sent to
// another one, too: the first answer wins. It returns all that was sent, the first attempt last.
func try[Request, Response any](
	ctx context.Context, c *Client, asked question[Request, Response], hedgeAfter time.Duration, earlier []*replicas.Attempt,
) (outcome[Response], []*replicas.Attempt) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	earlier = slices.Clip(earlier)
	firstCtx, first := replicas.Begin(ctx, earlier...)
	firstCtx, cancelFirst := context.WithCancel(firstCtx)
	defer cancelFirst()
	var second *replicas.Attempt
	var hedged outcome[Response]
	done := make(chan struct{})
	hedge := func() {
		defer close(done)
		c.pool.Doubt(first)
		if !asked.reads || first.Replica() == nil || !c.pool.HasOther(first) || !c.budget.Take() {
			return
		}
		var secondCtx context.Context
		secondCtx, second = replicas.BeginElsewhere(ctx, append(earlier, first)...)
		if hedged = once(secondCtx, second, asked); hedged.final() {
			cancelFirst()
		}
	}
	stop := c.whenLate(first, hedgeAfter, hedge)
	made := once(firstCtx, first, asked)
	if stop() || made.err == nil {
		return made, append(earlier, first)
	}
	if made.final() && made.err.Code != codes.Canceled {
		return made, append(earlier, first)
	}
	<-done
	if second == nil {
		return made, append(earlier, first)
	}
	if hedged.final() {
		made = hedged
	}
	return made, append(earlier, second, first)
}

// whenLate does something when an attempt has not been stopped a while after it was sent: the time that it takes to find a
// connection says nothing about a replica. Stopping tells whether it came in time.
func (c *Client) whenLate(attempt *replicas.Attempt, after time.Duration, do func()) (stop func() bool) {
	var mu sync.Mutex
	over, stopTimer := false, func() bool { return true }
	attempt.OnSent(func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			stopTimer = c.options.clock.AfterFunc(after, func() { go do() })
		}
	})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		over = true
		return stopTimer()
	}
}

func once[Request, Response any](ctx context.Context, attempt *replicas.Attempt, asked question[Request, Response]) outcome[Response] {
	var header, trailer metadata.MD
	response, err := asked.call(ctx, asked.request, grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil {
		return outcome[Response]{response: response}
	}
	// A call that ends at once has its headers in the trailer.
	var requestID string
	if ids := append(header.Get(requestIDHeader), trailer.Get(requestIDHeader)...); len(ids) > 0 {
		requestID = ids[0]
	}
	given, _ := status.FromError(err)
	if message, ok := any(asked.request).(proto.Message); ok && given.Code() == codes.Internal {
		if _, err := proto.Marshal(message); err != nil {
			// It never got onto the way, and never will.
			return outcome[Response]{response: response, err: invalid("request", "holds text that is not UTF-8")}
		}
	}
	made := outcome[Response]{response: response, err: errorFrom(given, requestID, asked.secrets)}
	made.lost = made.err.Kind == ErrUnavailable && attempt.Replica() != nil && len(header)+len(trailer) == 0
	return made
}

// final tells whether no other replica would say anything else.
func (o outcome[Response]) final() bool { return o.err == nil || !repeatable(o.err) }

// repeatable tells whether another replica, or the same one later, may do better. One that is overloaded without saying
// when to return is better left alone.
func repeatable(err *Error) bool {
	return err.Kind == ErrUnavailable || err.Kind == ErrOverloaded && err.RetryAfter > 0
}
