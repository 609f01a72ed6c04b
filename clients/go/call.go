package tenantauth

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

// retryBackoff is short: a caller with a customer waits.
var retryBackoff = retry.Backoff{First: 50 * time.Millisecond, Max: time.Second}

const requestIDHeader = "x-request-id"

// method is a call of the generated code.
type method[Request, Response any] func(context.Context, Request, ...grpc.CallOption) (Response, error)

// limit gives a context without a deadline the client's own.
func (c *Client) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.options.timeout)
}

// invoke makes a call, and makes it again while that may help and there is time. All of the contract's calls that are
// made here may be repeated. What is secret in the request does not get into the error.
func invoke[Request, Response any](
	ctx context.Context, c *Client, call method[Request, Response], request Request, secrets ...string,
) (Response, error) {
	ctx, cancel := c.limit(ctx)
	defer cancel()
	c.budget.Called()
	for attempt := 1; ; attempt++ {
		response, err := once(ctx, call, request, secrets)
		if err == nil {
			return response, nil
		}
		if attempt >= c.options.attempts || !repeatable(err) {
			return response, err
		}
		wait := err.RetryAfter + retryBackoff.Wait(attempt)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return response, err
		}
		if !c.budget.Take() {
			return response, err
		}
		near.Note(ctx, err)
		if clock.Sleep(ctx, c.options.clock, wait) != nil {
			return response, err
		}
	}
}

func once[Request, Response any](
	ctx context.Context, call method[Request, Response], request Request, secrets []string,
) (Response, *Error) {
	var header, trailer metadata.MD
	response, err := call(ctx, request, grpc.Header(&header), grpc.Trailer(&trailer))
	if err == nil {
		return response, nil
	}
	// A call that ends at once has its headers in the trailer.
	var requestID string
	if ids := append(header.Get(requestIDHeader), trailer.Get(requestIDHeader)...); len(ids) > 0 {
		requestID = ids[0]
	}
	given, _ := status.FromError(err)
	return response, errorFrom(given, requestID, secrets)
}

// repeatable tells whether another replica, or the same one later, may do better. One that is overloaded without saying
// when to return is better left alone.
func repeatable(err *Error) bool {
	return err.Kind == ErrUnavailable || err.Kind == ErrOverloaded && err.RetryAfter > 0
}
