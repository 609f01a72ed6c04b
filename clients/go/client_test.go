package tenantauth_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func toError(t *testing.T, err error) *tenantauth.Error {
	t.Helper()
	var made *tenantauth.Error
	if !errors.As(err, &made) {
		t.Fatalf("%v is not a *tenantauth.Error", err)
	}
	return made
}

func TestErrorCarriesAllDetailsOfTheService(t *testing.T) {
	r := start(t, tenantauth.WithAttempts(1))
	r.service.Before(func(context.Context, string, any) error {
		return fake.Unavailable("DATABASE_TIMED_OUT", 1_500*time.Millisecond)
	})
	_, err := r.client.ValidateKey(r.ctx, key)
	made := toError(t, err)
	if !errors.Is(err, tenantauth.ErrUnavailable) || errors.Is(err, tenantauth.ErrOverloaded) || !made.Transient() {
		t.Errorf("kind %v", made.Kind)
	}
	if made.Code != codes.Unavailable || made.Reason != "DATABASE_TIMED_OUT" || made.RetryAfter != 1_500*time.Millisecond ||
		made.RequestID != "request-of-ValidateKey" {
		t.Errorf("%+v", made)
	}
	// A gRPC server that returns this error must not return the status code of tenant-auth as its own.
	if code := status.Code(err); code != codes.Unknown {
		t.Errorf("the error carries the code %v", code)
	}
}

func TestStatusCodeDeterminesErrorKind(t *testing.T) {
	kinds := map[codes.Code]error{
		codes.Unavailable:       tenantauth.ErrUnavailable,
		codes.ResourceExhausted: tenantauth.ErrOverloaded,
		codes.InvalidArgument:   tenantauth.ErrInvalid,
		codes.Unauthenticated:   tenantauth.ErrUnauthenticated,
		codes.PermissionDenied:  tenantauth.ErrPermissionDenied,
		codes.DeadlineExceeded:  tenantauth.ErrDeadline,
	}
	r := start(t, tenantauth.WithAttempts(1))
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		r.service.Before(func(context.Context, string, any) error { return status.Error(code, "because") })
		_, err := r.client.ServerInfo(r.ctx)
		kind, ok := kinds[code]
		if !ok {
			kind = tenantauth.ErrOther
		}
		if !errors.Is(err, kind) || toError(t, err).Code != code {
			t.Errorf("%v: %v", code, err)
		}
	}
}

func TestCallTimesOut(t *testing.T) {
	for name, options := range map[string][]tenantauth.Option{
		"near cache": {tenantauth.WithTimeout(30 * time.Millisecond)},
		"without":    {tenantauth.WithTimeout(30 * time.Millisecond), tenantauth.WithoutNearCache()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options...)
			r.service.Before(func(ctx context.Context, _ string, _ any) error {
				<-ctx.Done()
				return ctx.Err()
			})
			// The context has no deadline, so the client's timeout applies.
			_, err := r.client.ValidateKey(context.Background(), key)
			if !errors.Is(err, tenantauth.ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			ctx, cancel := context.WithCancel(r.ctx)
			cancel()
			if _, err = r.client.ValidateKey(ctx, key); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestUnavailableIsRetriedAndVerdictIsNot(t *testing.T) {
	for name, failure := range map[string]error{
		"unavailable":                  status.Error(codes.Unavailable, "gone"),
		"unavailable with retry delay": fake.Unavailable("DATABASE_BUSY", 10*time.Millisecond),
		"overloaded with retry delay":  fake.Overloaded(10 * time.Millisecond),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, tenantauth.WithTimeout(testTimeout), tenantauth.WithoutWatch())
			var failures atomic.Int32
			r.service.Before(func(context.Context, string, any) error {
				if failures.Add(1) <= 2 {
					return failure
				}
				return nil
			})
			r.service.Put(key, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1"))
			done := make(chan tenantauth.Verdict)
			go func() {
				validation, err := r.client.ValidateKey(context.Background(), key)
				if err != nil {
					t.Error(err)
				}
				done <- validation.Verdict
			}()
			r.advance(60 * time.Millisecond)
			r.advance(110 * time.Millisecond)
			if verdict := <-done; verdict != tenantauth.Revoked {
				t.Errorf("%v", verdict)
			}
			r.expectCalls("ValidateKey", 3)
		})
	}
}

func TestPermanentErrorIsNotRetried(t *testing.T) {
	for name, failure := range map[string]error{
		"overloaded":                      status.Error(codes.ResourceExhausted, "too much"),
		"invalid":                         fake.Invalid("key", "must not be empty"),
		"internal error":                  status.Error(codes.Internal, "internal error"),
		"retry delay beyond the deadline": fake.Unavailable("DATABASE_BUSY", time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.service.Before(func(context.Context, string, any) error { return failure })
			if _, err := r.client.ValidateKey(r.ctx, key); err == nil {
				t.Error("want an error")
			}
			r.expectCalls("ValidateKey", 1)
		})
	}
}

func TestRetryBudgetLimitsRetries(t *testing.T) {
	r := start(t, tenantauth.WithTimeout(testTimeout), tenantauth.WithoutNearCache(), tenantauth.WithAttempts(2))
	r.service.Before(func(context.Context, string, any) error { return status.Error(codes.Unavailable, "gone") })
	const calls = 100
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range calls {
			if _, err := r.client.ServerInfo(context.Background()); !errors.Is(err, tenantauth.ErrUnavailable) {
				t.Error(err)
			}
		}
	}()
	r.await("the last call", func() bool {
		r.clock.Advance(time.Second)
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	// A burst of ten, and one per ten calls.
	if made := r.service.Calls("GetServerInfo"); made < calls+15 || made > calls+20 {
		t.Errorf("%d calls caused %d RPCs", calls, made)
	}
}

func TestBatchKeepsOrderAndIsolatesFailures(t *testing.T) {
	r := start(t)
	outcomes, err := r.client.ValidateKeys(r.ctx, []tenantauth.KeyQuery{
		{Key: "nobody's"}, {Key: key, Scopes: []string{"admin"}}, {Key: "\xff"}, {Key: "undecidable"}, {Key: key},
		{Key: ""}, {Key: tenantauth.Key(strings.Repeat("a", 2<<20))},
		{Key: key, Scopes: []string{"\xff"}}, {Key: key, Scopes: []string{strings.Repeat("a", 2<<20)}}, {Key: key, Scopes: make([]string, 1<<20)},
	})
	if err != nil {
		t.Fatal(err)
	}
	verdicts := make([]string, len(outcomes))
	for index, outcome := range outcomes {
		verdicts[index] = outcome.Verdict.String()
	}
	want := []string{"UNKNOWN", "INSUFFICIENT_SCOPE", "MALFORMED", "UNRECOGNIZED(0)", "VALID", "UNRECOGNIZED(0)", "UNRECOGNIZED(0)", "UNRECOGNIZED(0)", "UNRECOGNIZED(0)", "UNRECOGNIZED(0)"}
	if !slices.Equal(verdicts, want) {
		t.Errorf("%v", verdicts)
	}
	if made := toError(t, outcomes[3].Err); made.Kind != tenantauth.ErrUnavailable || made.Reason != "DATABASE_TIMED_OUT" {
		t.Errorf("%+v", made)
	}
	for index, field := range []string{"key", "key", "required_scopes[0]", "required_scopes[0]", "required_scopes"} {
		if made := toError(t, outcomes[5+index].Err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != field {
			t.Errorf("%+v", made)
		}
	}
	_, err = r.client.ValidateKeys(r.ctx, make([]tenantauth.KeyQuery, 1_001))
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || !strings.Contains(made.Message, "1001") {
		t.Errorf("%+v", made)
	}
	if outcomes[4].Err != nil || outcomes[4].TenantName != "Acme" || outcomes[4].Plan != "pro" {
		t.Errorf("%+v", outcomes[4])
	}
}

func TestUnknownVerdictIsADenial(t *testing.T) {
	r := start(t)
	for number := range tenantauthv1.Verdict(100) {
		if admitted := tenantauth.Verdict(number).IsValid(); admitted != (number == 1) {
			t.Errorf("%d: admitted is %t", number, admitted)
		}
	}
	r.service.Put(key, fake.Denied(42, "key_1"))
	if validation := r.validate(); validation.IsValid() || validation.Verdict.String() != "UNRECOGNIZED(42)" {
		t.Errorf("%v", validation.Verdict)
	}
}

func TestAllEndpointsAreUsedAndDeadOneIsSkipped(t *testing.T) {
	first, second := fake.Start(t), fake.Start(t)
	client, err := tenantauth.New(first.Address()+","+second.Address(), tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ask := func() {
		if _, err := client.ValidateKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	for first.Calls("ValidateKey") == 0 || second.Calls("ValidateKey") == 0 {
		ask()
	}
	first.Stop()
	for range 50 {
		ask()
	}
}

func TestRawConnectionServesGeneratedClients(t *testing.T) {
	r := start(t)
	reply, err := tenantauthv1.NewInfoServiceClient(r.client.Raw()).GetServerInfo(r.ctx, &tenantauthv1.GetServerInfoRequest{})
	if err != nil || reply.GetVersion() != "0.0.0-fake" {
		t.Errorf("%v, %v", reply, err)
	}
}
