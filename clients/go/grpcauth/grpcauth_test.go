package grpcauth_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
)

type stub struct {
	validation tenantauth.Validation
	err        error
	keys       []tenantauth.Key
	scopes     []string
}

func (s *stub) ValidateKey(_ context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error) {
	s.keys, s.scopes = append(s.keys, key), scopes
	return s.validation, s.err
}

// guarded is the health service, which represents any guarded service and returns its caller.
type guarded struct {
	*health.Server
	principals chan tenantauth.Principal
}

func (g *guarded) Check(ctx context.Context, _ *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	principal, _ := tenantauth.PrincipalFrom(ctx)
	g.principals <- principal
	return &healthv1.HealthCheckResponse{}, nil
}

func (g *guarded) Watch(_ *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) error {
	principal, _ := tenantauth.PrincipalFrom(stream.Context())
	g.principals <- principal
	return nil
}

func serve(t *testing.T, auth *grpcauth.Interceptor) (healthv1.HealthClient, chan tenantauth.Principal) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(auth.Unary), grpc.StreamInterceptor(auth.Stream))
	service := &guarded{health.NewServer(), make(chan tenantauth.Principal, 1)}
	healthv1.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return healthv1.NewHealthClient(conn), service.principals
}

func interceptor(t *testing.T, service grpcauth.Validator, options ...grpcauth.Option) *grpcauth.Interceptor {
	t.Helper()
	auth, err := grpcauth.New(service, append([]grpcauth.Option{grpcauth.WithLogger(slog.New(slog.DiscardHandler))}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func check(client healthv1.HealthClient, t *testing.T, pairs ...string) error {
	_, err := client.Check(metadata.AppendToOutgoingContext(t.Context(), pairs...), &healthv1.HealthCheckRequest{})
	return err
}

func TestValidKeyIsAdmittedWithItsPrincipal(t *testing.T) {
	scopes := func(method string) []string { return []string{method} }
	for name, test := range map[string]struct {
		pairs   []string
		options []grpcauth.Option
	}{
		"bearer":        {[]string{"authorization", "bearer ta_key"}, nil},
		"custom header": {[]string{"x-api-key", "ta_key"}, []grpcauth.Option{grpcauth.WithHeader("X-Api-Key")}},
	} {
		service := &stub{validation: tenantauth.Validation{Verdict: tenantauth.Valid, TenantID: "ten_1"}}
		client, principals := serve(t, interceptor(t, service, append(test.options, grpcauth.WithScopes(scopes))...))
		if err := check(client, t, test.pairs...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if principal := <-principals; principal.TenantID != "ten_1" {
			t.Errorf("%s: %+v", name, principal)
		}
		if string(service.keys[0]) != "ta_key" || service.scopes[0] != "/grpc.health.v1.Health/Check" {
			t.Errorf("%s: validated with scopes %v", name, service.scopes)
		}
		stream, err := client.Watch(metadata.AppendToOutgoingContext(t.Context(), test.pairs...), &healthv1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = stream.Recv()
		if principal := <-principals; principal.TenantID != "ten_1" {
			t.Errorf("%s, stream: %+v", name, principal)
		}
	}
}

func TestMissingOrAmbiguousKeyIsRejectedWithoutACall(t *testing.T) {
	for name, test := range map[string]struct {
		pairs []string
		code  codes.Code
	}{
		"none":           {nil, codes.Unauthenticated},
		"another scheme": {[]string{"authorization", "Basic dGE6a2V5"}, codes.Unauthenticated},
		"malformed":      {[]string{"authorization", "Bearer one two"}, codes.Unauthenticated},
		"two":            {[]string{"authorization", "Bearer one", "authorization", "Bearer two"}, codes.InvalidArgument},
	} {
		service := &stub{}
		client, _ := serve(t, interceptor(t, service))
		if err := check(client, t, test.pairs...); status.Code(err) != test.code || service.keys != nil {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := client.Watch(metadata.AppendToOutgoingContext(t.Context(), test.pairs...), &healthv1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != test.code {
			t.Errorf("%s, stream: %v", name, err)
		}
	}
}

func TestSameKeyInSeveralEntriesIsOneCredential(t *testing.T) {
	own, both := grpcauth.WithHeader("x-api-key"), grpcauth.WithHeader("authorization", "x-api-key")
	for name, test := range map[string]struct {
		option grpcauth.Option
		pairs  []string
		code   codes.Code
	}{
		"the same":                     {own, []string{"authorization", "Bearer ta_key", "x-api-key", "ta_key"}, codes.OK},
		"the same, both read":          {both, []string{"authorization", "Bearer ta_key", "x-api-key", "ta_key"}, codes.OK},
		"only one, both read":          {both, []string{"authorization", "Bearer ta_key"}, codes.OK},
		"two different":                {own, []string{"authorization", "Bearer another", "x-api-key", "ta_key"}, codes.InvalidArgument},
		"two different, both read":     {both, []string{"authorization", "Bearer another", "x-api-key", "ta_key"}, codes.InvalidArgument},
		"one entry twice":              {both, []string{"authorization", "Bearer ta_key", "x-api-key", "ta_key", "x-api-key", "ta_key"}, codes.InvalidArgument},
		"only authorization, not read": {own, []string{"authorization", "Bearer ta_key"}, codes.Unauthenticated},
	} {
		service := &stub{validation: tenantauth.Validation{Verdict: tenantauth.Valid}}
		client, _ := serve(t, interceptor(t, service, test.option))
		if err := check(client, t, test.pairs...); status.Code(err) != test.code || (test.code == codes.OK) != (len(service.keys) == 1) {
			t.Errorf("%s: %v, %d keys were validated", name, err, len(service.keys))
		}
	}
}

func TestExemptMethodsNeedNoKey(t *testing.T) {
	service := &stub{}
	client, principals := serve(t, interceptor(t, service, grpcauth.WithExempt(healthv1.Health_Check_FullMethodName)))
	if err := check(client, t); err != nil || service.keys != nil {
		t.Errorf("%v", err)
	}
	<-principals
	stream, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("other method: %v", err)
	}
}

func TestInvalidInterceptorOptionIsRejected(t *testing.T) {
	for name, option := range map[string]grpcauth.Option{
		"no header": grpcauth.WithHeader("a b"), "no method": grpcauth.WithExempt("Check"), "no function": grpcauth.WithScopes(nil),
		"no logger": grpcauth.WithLogger(nil), "nil": nil, "no network": grpcauth.WithTrustedProxies("proxy.example.com"),
		"no address header": grpcauth.WithClientAddressHeader("a b"),
	} {
		if _, err := grpcauth.New(&stub{}, option); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	// A client that could not be created is a nil pointer in a non-nil interface.
	for _, none := range []grpcauth.Validator{nil, (*tenantauth.Client)(nil)} {
		if _, err := grpcauth.New(none); err == nil {
			t.Error("nil validator: want an error")
		}
	}
}

func TestEachResultHasItsStatusCode(t *testing.T) {
	failed := func(kind error) *stub { return &stub{err: &tenantauth.Error{Kind: kind, RetryAfter: 2 * time.Second}} }
	verdict := func(verdict tenantauth.Verdict) *stub {
		return &stub{validation: tenantauth.Validation{Verdict: verdict, MissingScopes: []string{"a"}}}
	}
	for name, test := range map[string]struct {
		service *stub
		code    codes.Code
		reason  string
		retry   time.Duration
	}{
		"unknown":            {verdict(tenantauth.Unknown), codes.Unauthenticated, "UNKNOWN", 0},
		"lacking":            {verdict(tenantauth.InsufficientScope), codes.PermissionDenied, "INSUFFICIENT_SCOPE", 0},
		"no address":         {&stub{validation: tenantauth.Validation{Verdict: tenantauth.AddressRequired}}, codes.PermissionDenied, "ADDRESS_REQUIRED", 0},
		"another network":    {&stub{validation: tenantauth.Validation{Verdict: tenantauth.AddressNotAllowed}}, codes.PermissionDenied, "ADDRESS_NOT_ALLOWED", 0},
		"suspended":          {verdict(tenantauth.TenantSuspended), codes.PermissionDenied, "TENANT_SUSPENDED", 0},
		"quota":              {verdict(tenantauth.QuotaExceeded), codes.ResourceExhausted, "QUOTA_EXCEEDED", time.Second},
		"unavailable":        {failed(tenantauth.ErrUnavailable), codes.Unavailable, "UNDECIDED", 2 * time.Second},
		"server's own token": {failed(tenantauth.ErrUnauthenticated), codes.Unavailable, "UNDECIDED", 2 * time.Second},
		"no such scope":      {failed(tenantauth.ErrInvalid), codes.Unavailable, "UNDECIDED", 2 * time.Second},
		"unbound":            {verdict(tenantauth.Unbound), codes.NotFound, "UNBOUND", 0},
	} {
		client, _ := serve(t, interceptor(t, test.service))
		given := status.Convert(check(client, t, "authorization", "Bearer ta_key"))
		var reason string
		var retry time.Duration
		for _, detail := range given.Details() {
			switch detail := detail.(type) {
			case *errdetails.ErrorInfo:
				reason = detail.GetReason()
			case *errdetails.RetryInfo:
				retry = detail.GetRetryDelay().AsDuration()
			}
		}
		if given.Code() != test.code || reason != test.reason || retry != test.retry {
			t.Errorf("%s: %v %q %v", name, given.Code(), reason, retry)
		}
	}
}
