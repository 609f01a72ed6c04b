package tenantauth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const metric = "api.calls"

func costs(amount int64) []tenantauth.Cost {
	return []tenantauth.Cost{{Metric: metric, Amount: amount}}
}

func consumption(amount int64) tenantauth.ConsumeRequest {
	return tenantauth.ConsumeRequest{Credential: tenantauth.KeyQuery{Key: key, Scopes: []string{scope}}, Costs: costs(amount)}
}

func (r *rig) consume(request tenantauth.ConsumeRequest) tenantauth.ConsumeResult {
	r.t.Helper()
	result, err := r.client.Consume(r.ctx, request)
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// consumeLater consumes in the background. An error is a result without a verdict.
func (r *rig) consumeLater(request tenantauth.ConsumeRequest) <-chan tenantauth.ConsumeResult {
	done := make(chan tenantauth.ConsumeResult, 1)
	go func() {
		result, _ := r.client.Consume(r.ctx, request)
		done <- result
	}()
	return done
}

func TestConsumeTakesAmountsOrNamesTheLimitThatDenies(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 5)
	taken := r.consume(consumption(5))
	principal, err := taken.Principal()
	if err != nil || !taken.Allowed() || principal.TenantID != "ten_1" || principal.KeyID != "key_1" {
		t.Fatalf("%+v, %v", taken, err)
	}
	limit := taken.Limits[0]
	if limit.Name != fake.LimitName || limit.Metric != metric || limit.Limit != 100 || limit.Remaining != 0 || limit.Window != time.Hour ||
		*limit.ResetAfter != 90*time.Second || limit.RetryAfter != nil || limit.DecidedBy != tenantauth.DecidedByLease || limit.Denies() {
		t.Errorf("%+v", limit)
	}
	refused := r.consume(consumption(1))
	if after, ok := refused.RetryAfter(); refused.Allowed() || !ok || after != 90*time.Second || refused.Validation.TenantID != "ten_1" {
		t.Errorf("%+v", refused)
	}
	_, err = refused.Principal()
	denied, ok := errors.AsType[*tenantauth.Denied](err)
	if !ok || denied.Verdict != tenantauth.QuotaExceeded || len(denied.Limits) != 1 || !denied.Limits[0].Denies() {
		t.Fatalf("%v", err)
	}
	if after, ok := denied.RetryAfter(); !ok || after != 90*time.Second || denied.Error() != "tenant-auth: denied: QUOTA_EXCEEDED: requests" {
		t.Errorf("%v, %v: %v", after, ok, denied)
	}
	lacking := consumption(1)
	lacking.Credential = tenantauth.KeyQuery{Key: key, Scopes: []string{"admin"}}
	if result := r.consume(lacking); result.Verdict != tenantauth.InsufficientScope || len(result.Limits) != 0 || result.Validation.MissingScopes[0] != "admin" {
		t.Errorf("%+v", result)
	}
	if made := r.service.Calls("ValidateKey"); made != 0 {
		t.Errorf("%d validations, want one call for both", made)
	}
	// The principal can be guarded like that of a validation.
	r.guard(principal)
}

func TestRetryAfterIsKnownOnlyIfItIsKnownOfEachLimitThatDenies(t *testing.T) {
	hour, minute := time.Hour, time.Minute
	for name, test := range map[string]struct {
		limits []tenantauth.LimitDecision
		want   time.Duration
		known  bool
	}{
		"none":     {nil, 0, false},
		"admitted": {[]tenantauth.LimitDecision{{RetryAfter: &hour}}, 0, false},
		"longest":  {[]tenantauth.LimitDecision{{Exceeded: true, RetryAfter: &minute}, {Exceeded: true, RetryAfter: &hour}}, time.Hour, true},
		"credits":  {[]tenantauth.LimitDecision{{Exceeded: true, RetryAfter: &minute}, {Exceeded: true}}, 0, false},
		"shadow":   {[]tenantauth.LimitDecision{{Exceeded: true, RetryAfter: &minute}, {Exceeded: true, Shadow: true}}, time.Minute, true},
	} {
		if after, ok := (tenantauth.ConsumeResult{Limits: test.limits}).RetryAfter(); after != test.want || ok != test.known {
			t.Errorf("%s: %v, %v", name, after, ok)
		}
	}
}

func TestConsumeIsRepeatedOnlyWithAnID(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 5)
	failures := make(chan error, 3)
	r.service.Before(func(context.Context, string, any) error {
		select {
		case err := <-failures:
			return err
		default:
			return nil
		}
	})
	failures <- status.Error(codes.Unavailable, "not now")
	if _, err := r.client.Consume(r.ctx, consumption(1)); !errors.Is(err, tenantauth.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	r.expectCalls("Consume", 1)
	failures <- status.Error(codes.Unavailable, "not now")
	if _, err := r.client.ConsumeMany(r.ctx, []tenantauth.ConsumeRequest{{Credential: tenantauth.KeyQuery{Key: key}, Costs: costs(1), ConsumeID: "a"}, consumption(1)}); !errors.Is(err, tenantauth.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	r.expectCalls("BatchConsume", 1)
	// A retry waits for its delay by the clock of the client.
	failures <- status.Error(codes.Unavailable, "not now")
	withID := consumption(1)
	withID.ConsumeID = "id"
	done := r.consumeLater(withID)
	r.await("the first attempt", func() bool { return r.service.Calls("Consume") == 2 })
	r.advance(time.Second)
	if result := <-done; !result.Allowed() || result.AlreadyConsumed {
		t.Errorf("%+v", result)
	}
	r.expectCalls("Consume", 3)
	if result := r.consume(withID); !result.Allowed() || !result.AlreadyConsumed || len(result.Limits) != 0 {
		t.Errorf("%+v", result)
	}
}

func TestConsumeThatWasNotSentIsRepeated(t *testing.T) {
	attempts := 0
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if attempts++; attempts == 1 {
				return status.Error(codes.Unavailable, "no connection")
			}
			return invoke(ctx, method, request, reply, conn, opts...)
		})))
	done := r.consumeLater(consumption(1))
	r.advance(time.Second)
	if result := <-done; !result.Allowed() {
		t.Errorf("%+v", result)
	}
	r.expectCalls("Consume", 1)
}

func TestConsumeThatMayHaveBeenSentIsNotRepeatedAfterItsConnectionIsLost(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	other := fake.Start(t)
	client, err := tenantauth.New([]string{r.service.Address(), other.Address()}, tenantauth.WithoutWatch(), tenantauth.WithTimeout(testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, service := range []*fake.Server{r.service, other} {
		service.Put(key, fake.Valid("key_1", scope))
		service.Before(func(_ context.Context, method string, _ any) error {
			if method == "Consume" {
				service.Stop()
			}
			return nil
		})
	}
	if _, err := client.Consume(r.ctx, consumption(1)); !errors.Is(err, tenantauth.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if sent := r.service.Calls("Consume") + other.Calls("Consume"); sent != 1 {
		t.Errorf("%d calls", sent)
	}
}

func TestConsumeIsNotWeakerThanTheNearCache(t *testing.T) {
	r, stream := startWatched(t)
	stream.Invalidate(20, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
	r.await("the invalidation", func() bool { return r.client.WatchState().Revision == 20 })
	// The replica that consumes does not know the change yet.
	r.service.Put(key, fake.At(10, fake.Valid("key_1", scope)))
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "ValidateKey" {
			r.service.Put(key, fake.At(20, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1")))
		}
		return nil
	})
	if result := r.consume(consumption(1)); result.Allowed() || result.Verdict != tenantauth.Revoked || len(result.Limits) != 0 {
		t.Errorf("%+v", result)
	}
	r.service.Put(key, fake.At(10, fake.Valid("key_1", scope)))
	reservation, err := r.client.Reserve(r.ctx, tenantauth.ReserveRequest{Credential: tenantauth.KeyQuery{Key: key}, Costs: costs(1)})
	if err != nil || reservation.Verdict != tenantauth.Revoked {
		t.Errorf("%+v, %v", reservation, err)
	}
	if held := r.service.Reservations(); len(held) != 1 || held[0].State != tenantauthv1.ReservationState_RESERVATION_STATE_CANCELLED {
		t.Errorf("%+v", held)
	}
}

func TestSessionTakesFromItsLimits(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 1)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour, Attributes: map[string]string{"a": "b"}})
	request := tenantauth.ConsumeRequest{Credential: tenantauth.SessionQuery{SessionID: session, Scopes: []string{scope}}, Costs: costs(1)}
	if result := r.consume(request); !result.Allowed() || result.Validation.Attributes["a"] != "b" || result.Limits[0].Remaining != 0 {
		t.Errorf("%+v", result)
	}
	if result := r.consume(request); result.Verdict != tenantauth.QuotaExceeded || result.Validation.Verdict != tenantauth.Valid {
		t.Errorf("%+v", result)
	}
	request.Credential = tenantauth.SessionQuery{SessionID: "another"}
	if result := r.consume(request); result.Verdict != tenantauth.Unbound {
		t.Errorf("%+v", result)
	}
}

func TestBatchKeepsTheOrderOfItsRequests(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 1)
	r.service.Put("office", fake.Restricted("key_2", "192.0.2.0/24"))
	office := func(address string) tenantauth.ConsumeRequest {
		return tenantauth.ConsumeRequest{Credential: tenantauth.KeyQuery{Key: "office", ClientAddress: address}, Costs: []tenantauth.Cost{{Metric: "free", Amount: 1}}}
	}
	outcomes, err := r.client.ConsumeMany(r.ctx, []tenantauth.ConsumeRequest{
		consumption(1), consumption(1), {Credential: tenantauth.KeyQuery{Key: "\xff"}, Costs: costs(1)}, {Costs: costs(1)},
		{Credential: tenantauth.KeyQuery{Key: key}, Costs: []tenantauth.Cost{{Metric: "undecidable", Amount: 1}}},
		{Credential: tenantauth.KeyQuery{Key: key}, Costs: []tenantauth.Cost{{Metric: "\xff", Amount: 1}}}, office("192.0.2.7:443"), office("198.51.100.1"), office("x"),
		{Credential: tenantauth.SessionQuery{SessionID: "s\xff"}, Costs: costs(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for index, want := range []tenantauth.Verdict{
		tenantauth.Valid, tenantauth.QuotaExceeded, tenantauth.Malformed, 0, 0, 0, tenantauth.Valid, tenantauth.AddressNotAllowed, 0, 0,
	} {
		if outcomes[index].Verdict != want || (outcomes[index].Err == nil) != (want != 0) {
			t.Errorf("%d: %v, %v", index, outcomes[index].Verdict, outcomes[index].Err)
		}
	}
	for index, field := range map[int]string{
		3: "credential", 5: "request", 8: "credential.key.client_address", 9: "credential.session.session_id",
	} {
		if made := toError(t, outcomes[index].Err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != field {
			t.Errorf("%d: %+v", index, made)
		}
	}
	if made := toError(t, outcomes[4].Err); made.Kind != tenantauth.ErrUnavailable || made.Reason != "LIMIT_UNDECIDED" {
		t.Errorf("%+v", made)
	}
	r.expectCalls("BatchConsume", 1)
	if _, err := r.client.ConsumeMany(r.ctx, slices.Repeat([]tenantauth.ConsumeRequest{consumption(1)}, 1_001)); toError(t, err).Violations[0].Field != "requests" {
		t.Errorf("%v", err)
	}
}

func TestLimitStateIsThatOfATenantOrAKey(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.service.PutLimit(metric, 7)
	states, err := r.client.TenantLimitState(r.ctx, "ten_1")
	if err != nil || len(states) != 1 || states[0].Limit.GetMetric() != metric || states[0].Remaining != 7 || *states[0].ResetAfter != time.Minute {
		t.Errorf("%+v, %v", states, err)
	}
	if states, err := r.client.KeyLimitState(r.ctx, "key_1"); err != nil || len(states) != 1 {
		t.Errorf("%+v, %v", states, err)
	}
	if _, err := r.client.TenantLimitState(r.ctx, "ten_2"); toError(t, err).Code != codes.NotFound {
		t.Errorf("%v", err)
	}
}
