// Package grpcauth lets only calls with a good key through to a gRPC server.
//
//	auth := grpcauth.New(client, grpcauth.WithScopes(func(method string) []string { … }))
//	server := grpc.NewServer(grpc.UnaryInterceptor(auth.Unary), grpc.StreamInterceptor(auth.Stream))
//
// The handler finds who calls with tenantauth.PrincipalFrom(ctx).
package grpcauth

import (
	"context"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Validator decides about keys: a *tenantauth.Client, or a stand-in for tests.
type Validator interface {
	ValidateKey(ctx context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error)
}

// Interceptor lets only calls with a good key through.
type Interceptor struct {
	validator Validator
	header    string
	scopes    func(method string) []string
	public    func(method string) bool
}

// Option changes how an [Interceptor] works.
type Option func(*Interceptor)

// WithHeader takes the key from metadata of its own, such as x-api-key, instead of "authorization: Bearer …".
func WithHeader(name string) Option {
	return func(i *Interceptor) { i.header = strings.ToLower(name) }
}

// WithScopes tells which scopes a method, such as /orders.v1.Orders/List, requires.
func WithScopes(scopes func(method string) []string) Option {
	return func(i *Interceptor) { i.scopes = scopes }
}

// WithPublic tells which methods need no key, such as those of grpc.health.v1.
func WithPublic(public func(method string) bool) Option {
	return func(i *Interceptor) { i.public = public }
}

// New is an interceptor that asks the validator.
func New(validator Validator, opts ...Option) *Interceptor {
	interceptor := &Interceptor{
		validator: validator,
		scopes:    func(string) []string { return nil },
		public:    func(string) bool { return false },
	}
	for _, option := range opts {
		option(interceptor)
	}
	return interceptor
}

// Unary is a grpc.UnaryServerInterceptor.
func (i *Interceptor) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := i.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

// Stream is a grpc.StreamServerInterceptor. The key is looked at when the stream opens.
func (i *Interceptor) Stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := i.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return handler(service, &admitted{ServerStream: stream, ctx: ctx})
}

type admitted struct {
	grpc.ServerStream
	ctx context.Context
}

// Context holds the principal.
func (a *admitted) Context() context.Context { return a.ctx }

func (i *Interceptor) admit(ctx context.Context, method string) (context.Context, error) {
	if i.public(method) {
		return ctx, nil
	}
	key := i.key(ctx)
	if key == "" {
		return nil, refusal(admission.NoKey())
	}
	validation, err := i.validator.ValidateKey(ctx, key, i.scopes(method)...)
	reply := admission.Of(validation, err)
	if reply.Class != admission.Admitted {
		return nil, refusal(reply)
	}
	principal, _ := validation.Principal()
	return tenantauth.ContextWithPrincipal(ctx, principal), nil
}

func (i *Interceptor) key(ctx context.Context) tenantauth.Key {
	name := i.header
	if name == "" {
		name = "authorization"
	}
	values := metadata.ValueFromIncomingContext(ctx, name)
	// Two keys are no key: which one would it be?
	if len(values) != 1 {
		return ""
	}
	if i.header != "" {
		return tenantauth.Key(strings.TrimSpace(values[0]))
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return tenantauth.Key(strings.TrimSpace(key))
}

var statuses = map[admission.Class]codes.Code{
	admission.Unauthenticated: codes.Unauthenticated,
	admission.Forbidden:       codes.PermissionDenied,
	admission.Throttled:       codes.ResourceExhausted,
	admission.Undecided:       codes.Unavailable,
	admission.Defect:          codes.Internal,
}

func refusal(reply admission.Reply) error {
	made := status.New(statuses[reply.Class], reply.Message)
	info := &errdetails.ErrorInfo{Reason: reply.Reason, Domain: "tenantauth"}
	if len(reply.MissingScopes) > 0 {
		info.Metadata = map[string]string{"missing_scopes": strings.Join(reply.MissingScopes, " ")}
	}
	detailed, err := made.WithDetails(info)
	if err == nil && reply.RetryAfter > 0 {
		detailed, err = detailed.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(reply.RetryAfter)})
	}
	if err != nil {
		return made.Err()
	}
	return detailed.Err()
}
