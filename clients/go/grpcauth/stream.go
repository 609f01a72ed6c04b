package grpcauth

import (
	"context"

	"google.golang.org/grpc"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Guarder guards streams: a *tenantauth.Client, or a replacement in tests.
type Guarder interface {
	Guard(ctx context.Context, principal tenantauth.Principal, opts ...tenantauth.GuardOption) (context.Context, context.CancelFunc, error)
}

// WithGuardedStreams guards all streams: see [tenantauth.Client.Guard]. When the key may no longer be used, the stream ends at
// once with the status for the verdict, even if the handler is blocked. The context of the stream is cancelled, and further
// calls of SendMsg and RecvMsg fail with the same status; the handler must then return.
func WithGuardedStreams(opts ...tenantauth.GuardOption) Option {
	return func(i *Interceptor) {
		i.guard = append([]tenantauth.GuardOption{}, opts...)
		i.errs = append(i.errs, tenantauth.CheckGuardOptions(opts...))
	}
}

// Stream is a grpc.StreamServerInterceptor. The key is validated when the stream opens, and again if [WithGuardedStreams] is
// set.
func (i *Interceptor) Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := i.admit(stream.Context(), info.FullMethod, nil)
	if err != nil {
		return err
	}
	principal, ok := tenantauth.PrincipalFrom(ctx)
	if i.guarder == nil || !ok {
		return handler(service, &admitted{ServerStream: stream, ctx: ctx})
	}
	guarded, release, err := i.guarder.Guard(ctx, principal, i.guard...)
	if err != nil {
		i.undecided.Log(ctx, err)
		return statusError(admission.ReplyFor(tenantauth.Validation{}, err))
	}
	defer release()
	return i.serve(guarded, func() error { return handler(service, &admitted{ServerStream: stream, ctx: guarded}) })
}

// handled is the result of a handler.
type handled struct {
	err error
	// panicked is true if the handler did not return.
	panicked bool
	value    any
}

// serve runs a handler until it returns, or until the guard ends its context. The handler may be blocked in a call that only
// the end of the stream ends, so it runs in a goroutine of its own.
func (i *Interceptor) serve(guarded context.Context, handler func() error) error {
	results, abandoned := make(chan handled), make(chan struct{})
	defer close(abandoned)
	go func() {
		result := handled{panicked: true}
		defer func() {
			if result.panicked {
				result.value = recover()
			}
			select {
			case results <- result:
			case <-abandoned:
				if result.panicked {
					i.undecided.Logger.ErrorContext(guarded, "tenant-auth: handler of a stream that had ended panicked", "value", result.value)
				}
			}
		}()
		result.err = handler()
		result.panicked = false
	}()
	var result handled
	select {
	case result = <-results:
	case <-guarded.Done():
		if endOf(guarded) == nil {
			// The caller has left. The handler ends the stream.
			result = <-results
		}
	}
	if result.panicked {
		panic(result.value)
	}
	if err := endOf(guarded); err != nil {
		if ended, _ := tenantauth.EndOf(guarded); ended.Verdict == 0 {
			i.undecided.Log(guarded, ended)
		}
		return err
	}
	return result.err
}

// endOf returns the status of a stream that the guard has ended.
func endOf(ctx context.Context) error {
	ended, ok := tenantauth.EndOf(ctx)
	if !ok {
		return nil
	}
	return statusError(admission.ReplyForEnd(ended))
}

// admitted is the stream of an admitted call.
type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns the context with the principal.
func (a *admitted) Context() context.Context { return a.ctx }

// SendMsg sends a message, unless the guard has ended the stream.
func (a *admitted) SendMsg(message any) error {
	if err := endOf(a.ctx); err != nil {
		return err
	}
	return a.ServerStream.SendMsg(message)
}

// RecvMsg receives a message, unless the guard has ended the stream.
func (a *admitted) RecvMsg(message any) error {
	if err := endOf(a.ctx); err != nil {
		return err
	}
	return a.ServerStream.RecvMsg(message)
}
