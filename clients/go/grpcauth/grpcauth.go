// Package grpcauth provides interceptors for gRPC servers that admit only calls with a valid API key.
//
//	auth, err := grpcauth.New(client, grpcauth.WithScopes(func(method string) []string { … }))
//	server := grpc.NewServer(grpc.UnaryInterceptor(auth.Unary), grpc.StreamInterceptor(auth.Stream))
//
// The handler gets the customer from tenantauth.PrincipalFrom(ctx), and the customer's network address from
// tenantauth.ClientAddressFrom(ctx).
package grpcauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Validator validates keys: a *tenantauth.Client, or a replacement in tests.
type Validator interface {
	ValidateKey(ctx context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error)
}

// Interceptor admits only calls with a valid key.
type Interceptor struct {
	validator Validator
	location  admission.KeyLocation
	address   admission.ClientAddress
	scopes    func(method string) []string
	exempt    map[string]bool
	// costs is nil if calls cost nothing.
	costs     costsFunc
	undecided *admission.UndecidedLog
	// guarder is nil if streams are not guarded.
	guarder Guarder
	guard   []tenantauth.GuardOption
	errs    []error
}

// Option configures an [Interceptor].
type Option func(*Interceptor)

// WithHeader reads the key from the given metadata entries, such as x-api-key, instead of "authorization: Bearer …". Name
// authorization too to read it from both. The same key in several entries, including authorization, is one credential; calls
// with two different keys get INVALID_ARGUMENT.
func WithHeader(names ...string) Option {
	return func(i *Interceptor) {
		location, err := admission.InHeaders(names...)
		i.location, i.errs = location, append(i.errs, err)
	}
}

// WithTrustedProxies sets the networks, such as 10.0.0.0/8, or addresses of the proxies in front of this server. For calls
// from them, the customer's address is read from the metadata entry x-forwarded-for, from right to left up to the first
// address that is not a proxy's. For all other calls, and by default, it is the address of the connection.
//
// Name only proxies that append to the entry or replace it. Customers can forge their address if one of the networks
// contains anything else.
func WithTrustedProxies(proxies ...string) Option {
	return func(i *Interceptor) { i.errs = append(i.errs, i.address.Trust(proxies...)) }
}

// WithClientAddressHeader sets the metadata entry that the trusted proxies write the customer's address to, such as
// x-real-ip, instead of x-forwarded-for.
func WithClientAddressHeader(name string) Option {
	return func(i *Interceptor) { i.errs = append(i.errs, i.address.UseHeader(name)) }
}

// WithScopes sets the function that returns the scopes that a method, such as /orders.v1.Orders/List, requires.
func WithScopes(scopes func(method string) []string) Option {
	return func(i *Interceptor) {
		if scopes == nil {
			i.errs = append(i.errs, errors.New("WithScopes(nil): must be a function"))
			return
		}
		i.scopes = scopes
	}
}

// WithExempt admits calls of exactly these methods, such as /grpc.health.v1.Health/Check, without a key. They have no
// principal.
func WithExempt(methods ...string) Option {
	return func(i *Interceptor) {
		for _, method := range methods {
			if !strings.HasPrefix(method, "/") || strings.Count(method, "/") != 2 {
				i.errs = append(i.errs, fmt.Errorf("WithExempt(%q): must be /package.Service/Method", method))
			}
			i.exempt[method] = true
		}
	}
}

// WithLogger sets the logger for calls that could not be decided, at most one message per second. Default:
// slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(i *Interceptor) {
		if logger == nil {
			i.errs = append(i.errs, errors.New("WithLogger(nil): must be a logger; to discard all messages, use slog.DiscardHandler"))
			return
		}
		i.undecided.Logger = logger
	}
}

// New creates an interceptor that uses the validator.
func New(validator Validator, opts ...Option) (*Interceptor, error) {
	interceptor := &Interceptor{
		validator: validator,
		scopes:    func(string) []string { return nil },
		exempt:    map[string]bool{},
		undecided: &admission.UndecidedLog{Logger: slog.Default(), Now: time.Now},
	}
	if client, ok := validator.(*tenantauth.Client); validator == nil || ok && client == nil {
		interceptor.errs = append(interceptor.errs, errors.New("the validator is nil"))
	}
	for _, option := range opts {
		if option == nil {
			interceptor.errs = append(interceptor.errs, errors.New("an option is nil; remove it"))
			continue
		}
		option(interceptor)
	}
	if interceptor.guard != nil {
		var ok bool
		if interceptor.guarder, ok = validator.(Guarder); !ok {
			interceptor.errs = append(interceptor.errs, errors.New("WithGuardedStreams: the validator cannot guard streams; use a *tenantauth.Client"))
		}
	}
	if interceptor.costs != nil && validator != nil {
		_, err := admission.ConsumerIn(validator)
		interceptor.errs = append(interceptor.errs, err)
	}
	if err := errors.Join(interceptor.errs...); err != nil {
		return nil, fmt.Errorf("grpcauth: %w", err)
	}
	return interceptor, nil
}

// Unary is a grpc.UnaryServerInterceptor.
func (i *Interceptor) Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := i.admit(ctx, info.FullMethod, request)
	if err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

// admit returns the context of an admitted call. request is nil for a stream.
func (i *Interceptor) admit(ctx context.Context, method string, request any) (context.Context, error) {
	if i.exempt[method] {
		return ctx, nil
	}
	values := func(header string) []string { return metadata.ValueFromIncomingContext(ctx, header) }
	key, reply := i.location.KeyFrom(values)
	if reply.Class != admission.Admitted {
		return nil, statusError(reply)
	}
	addressed := i.address.AddTo(ctx, connectedFrom(ctx), values)
	var costs []tenantauth.Cost
	if i.costs != nil {
		costs = i.costs(addressed, method, request)
	}
	result, err := admission.Decide(addressed, i.validator, key, i.scopes(method), costs)
	principal, denied := result.Principal()
	if err != nil || denied != nil {
		reply = admission.ReplyForResult(result, err)
		if reply.Class == admission.Undecided {
			i.undecided.Log(ctx, err)
		}
		return nil, statusError(reply)
	}
	if len(costs) > 0 {
		addressed = tenantauth.ContextWithLimits(addressed, result.Limits)
	}
	return tenantauth.ContextWithPrincipal(addressed, principal), nil
}

// connectedFrom returns the address of the connection, or an empty text for a Unix socket. There, the address is a path,
// which the peer can choose to look like an address.
func connectedFrom(ctx context.Context) string {
	connected, ok := peer.FromContext(ctx)
	if !ok || connected.Addr == nil || isUnix(connected.Addr) || isUnix(connected.LocalAddr) {
		return ""
	}
	return connected.Addr.String()
}

// isUnix is asked about both ends, because gRPC behind net/http reports every peer as TCP.
func isUnix(end net.Addr) bool { return end != nil && end.Network() == "unix" }

var statuses = map[admission.Class]codes.Code{
	admission.Ambiguous:       codes.InvalidArgument,
	admission.NoCredentials:   codes.Unauthenticated,
	admission.Unauthenticated: codes.Unauthenticated,
	admission.Forbidden:       codes.PermissionDenied,
	admission.NotFound:        codes.NotFound,
	admission.Throttled:       codes.ResourceExhausted,
	admission.Undecided:       codes.Unavailable,
	admission.Outdated:        codes.Unavailable,
}

func statusError(reply admission.Reply) error {
	made := status.New(statuses[reply.Class], reply.Detail)
	info := &errdetails.ErrorInfo{Reason: reply.Code, Domain: "tenantauth"}
	if len(reply.MissingScopes) > 0 {
		info.Metadata = map[string]string{"missing_scopes": strings.Join(reply.MissingScopes, " ")}
	}
	details := []protoadapt.MessageV1{info}
	if reply.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(reply.RetryAfter)})
	}
	if len(reply.Exceeded) > 0 {
		details = append(details, quotaFailure(reply))
	}
	detailed, err := made.WithDetails(details...)
	if err != nil {
		return made.Err()
	}
	return detailed.Err()
}
