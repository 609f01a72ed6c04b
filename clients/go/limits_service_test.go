package tenantauth_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// These tests use the real service.

// reader is the key of the demo tenant, with a scope that it holds.
func reader(real *service.Service) tenantauth.KeyQuery {
	return tenantauth.KeyQuery{Key: tenantauth.Key(real.Key), Scopes: []string{"demo:read"}}
}

func TestRealServiceConsumesUntilAQuotaIsUsedUp(t *testing.T) {
	client, real := connect(t)
	service.SetQuota(t, client.Raw(), "requests", "api.calls", 5)
	service.SetLimit(t, client.Raw(), &tenantauthv1.Limit{
		Name: "planned", Metric: "api.calls", Shadow: true,
		Rule: &tenantauthv1.Limit_Credits{Credits: &tenantauthv1.Credits{Initial: 1}},
	})
	take := func(amount int64, id string) tenantauth.ConsumeResult {
		t.Helper()
		result, err := client.Consume(t.Context(), tenantauth.ConsumeRequest{Credential: reader(real), Costs: costs(amount), ConsumeID: id})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	first := take(3, "once")
	principal, err := first.Principal()
	if err != nil || principal.TenantID != service.DemoTenant || first.AlreadyConsumed || len(first.Limits) != 2 {
		t.Fatalf("%+v, %v", first, err)
	}
	planned, requests := first.Limits[0], first.Limits[1]
	if planned.Name != "planned" || !planned.Shadow || planned.Denies() || planned.Window != 0 || planned.ResetAfter != nil {
		t.Errorf("%+v", planned)
	}
	if requests.Name != "requests" || requests.Limit != 5 || requests.Remaining > 2 || requests.Window != time.Hour || requests.ResetAfter == nil || requests.Exceeded {
		t.Errorf("%+v", requests)
	}
	if again := take(3, "once"); !again.Allowed() || !again.AlreadyConsumed || len(again.Limits) != 0 {
		t.Errorf("%+v", again)
	}
	if result := take(2, ""); !result.Allowed() {
		t.Errorf("%+v", result)
	}
	refused := take(1, "")
	_, err = refused.Principal()
	denied, ok := errors.AsType[*tenantauth.Denied](err)
	if after, known := refused.RetryAfter(); !ok || denied.Verdict != tenantauth.QuotaExceeded || !known || after <= 0 || after > 65*time.Minute || !refused.Validation.IsValid() {
		t.Errorf("%+v, %v", refused, err)
	}
	lacking := tenantauth.KeyQuery{Key: tenantauth.Key(real.Key), Scopes: []string{"demo:delete"}}
	result, err := client.Consume(t.Context(), tenantauth.ConsumeRequest{Credential: lacking, Costs: costs(1)})
	if err != nil || result.Verdict != tenantauth.InsufficientScope || len(result.Limits) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	_, err = client.Consume(t.Context(), tenantauth.ConsumeRequest{Credential: reader(real), Costs: []tenantauth.Cost{{Metric: "api.calls"}}})
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "costs[0].amount" {
		t.Errorf("%+v", made)
	}
}

func TestRealServiceDecidesEachRequestOfABatch(t *testing.T) {
	client, real := connect(t)
	service.SetQuota(t, client.Raw(), "requests", "api.calls", 3)
	if _, err := client.BindSession(t.Context(), tenantauth.Bind{SessionID: session, Key: tenantauth.Key(real.Key), TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	outcomes, err := client.ConsumeMany(t.Context(), []tenantauth.ConsumeRequest{
		{Credential: reader(real), Costs: costs(2)},
		{Credential: tenantauth.KeyQuery{Key: "unknown-key"}, Costs: costs(1)},
		{Credential: reader(real), Costs: costs(0)},
		{Credential: tenantauth.SessionQuery{SessionID: session}, Costs: costs(1)},
		{Credential: reader(real), Costs: costs(4)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for index, want := range []tenantauth.Verdict{tenantauth.Valid, tenantauth.Unknown, 0, tenantauth.Valid, tenantauth.QuotaExceeded} {
		if outcomes[index].Verdict != want || (outcomes[index].Err == nil) != (want != 0) {
			t.Errorf("%d: %v, %v", index, outcomes[index].Verdict, outcomes[index].Err)
		}
	}
}

func TestRealServiceSettlesAndCancelsReservations(t *testing.T) {
	client, real := connect(t)
	service.SetQuota(t, client.Raw(), "tokens", "llm.tokens", 100)
	amount := func(amount int64) tenantauth.Cost { return tenantauth.Cost{Metric: "llm.tokens", Amount: amount} }
	reserve := func(costs ...tenantauth.Cost) *tenantauth.Reservation {
		t.Helper()
		reservation, err := client.Reserve(t.Context(), tenantauth.ReserveRequest{Credential: reader(real), Costs: costs, ExpiresIn: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return reservation
	}
	reservation := reserve(amount(80))
	if !reservation.Allowed() || reservation.ExpiresIn <= 0 || reservation.ExpiresIn > time.Minute {
		t.Fatalf("%+v", reservation)
	}
	if other := reserve(amount(30)); other.Verdict != tenantauth.QuotaExceeded || other.Close() != nil {
		t.Errorf("%+v", other)
	}
	settlement, err := reservation.Settle(t.Context(), amount(10))
	want := tenantauth.SettledLimit{Name: "tokens", Metric: "llm.tokens", Reserved: 80, Charged: 10}
	if err != nil || settlement.State != tenantauth.ReservationSettled || len(settlement.Limits) != 1 || settlement.Limits[0] != want {
		t.Errorf("%+v, %v", settlement, err)
	}
	func() {
		defer func() { _ = recover() }()
		var abandoned *tenantauth.Reservation
		// The service remembers for a moment that it has refused the second reservation.
		eventually(t, func() bool {
			abandoned = reserve(amount(90))
			return abandoned.Allowed()
		})
		defer func() { _ = abandoned.Close() }()
		panic("the handler is broken")
	}()
	states, err := client.TenantLimitState(t.Context(), service.DemoTenant)
	if err != nil || len(states) != 1 || states[0].Limit.GetName() != "tokens" || states[0].Reserved != 0 || states[0].Remaining > 90 {
		t.Errorf("%+v, %v", states, err)
	}
	validation, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key))
	if err != nil {
		t.Fatal(err)
	}
	if states, err := client.KeyLimitState(t.Context(), validation.KeyID); err != nil || len(states) != 1 {
		t.Errorf("%+v, %v", states, err)
	}
	if _, err := client.CancelReservation(t.Context(), "another"); toError(t, err).Code != codes.NotFound {
		t.Errorf("%v", err)
	}
}

func TestRealServiceNeverAdmitsMoreThanTheLimitThroughLocalLimiters(t *testing.T) {
	client, real := connect(t)
	other, err := tenantauth.New(real.Address, tenantauth.WithTimeout(testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	const limit = 3_000
	service.SetQuota(t, client.Raw(), "requests", metric, limit)
	limiters := []*tenantauth.LocalLimiter{newLimiter(t, client), newLimiter(t, other)}
	var admitted atomic.Int64
	spend := func(limiter *tenantauth.LocalLimiter, workers int) {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				for {
					result, err := limiter.Consume(t.Context(), reader(real), 1)
					if err != nil {
						t.Error(err)
						return
					}
					if !result.Allowed() {
						return
					}
					admitted.Add(1)
				}
			})
		}
		all.Wait()
	}
	var all sync.WaitGroup
	for _, limiter := range limiters {
		all.Go(func() { spend(limiter, 4) })
	}
	all.Wait()
	under := admitted.Load()
	states, err := client.TenantLimitState(t.Context(), service.DemoTenant)
	if err != nil {
		t.Fatal(err)
	}
	if free := states[0].Remaining + states[0].Leased + states[0].Reserved; under > limit || under < limit-free {
		t.Errorf("%d admitted of %d while %d were free or held", under, limit, free)
	}
	for _, limiter := range limiters {
		if err := limiter.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// Nothing is held now, so the rest can be taken, once the service no longer remembers that it has refused.
	last := newLimiter(t, client)
	eventually(t, func() bool {
		spend(last, 1)
		return admitted.Load() >= limit
	})
	if spend(last, 1); admitted.Load() != limit {
		t.Errorf("%d admitted of %d, %d of them by two limiters at once", admitted.Load(), limit, under)
	}
}

func TestRealServiceRevocationEndsALocalLease(t *testing.T) {
	client, real := connect(t)
	const limit, before = 30, 10
	service.SetQuota(t, client.Raw(), "requests", metric, limit)
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{TenantId: service.DemoTenant, Name: "limited"})
	if err != nil {
		t.Fatal(err)
	}
	limiter := newLimiter(t, client)
	revoked := tenantauth.KeyQuery{Key: tenantauth.Key(issued.GetPlaintext())}
	for range before {
		if result, err := limiter.Consume(t.Context(), revoked, 1); err != nil || !result.Allowed() {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: issued.GetKey().GetKeyId(), Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	if result, err := limiter.Consume(t.Context(), revoked, 1); err != nil || result.Verdict != tenantauth.Revoked {
		t.Errorf("%+v, %v", result, err)
	}
	if err := limiter.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Another key of the tenant gets exactly what the revoked one did not use.
	consume := func(amount int64) tenantauth.ConsumeResult {
		result, err := client.Consume(t.Context(), tenantauth.ConsumeRequest{Credential: reader(real), Costs: costs(amount)})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	eventually(t, func() bool { return consume(limit - before).Allowed() })
	if result := consume(1); result.Verdict != tenantauth.QuotaExceeded {
		t.Errorf("%+v", result)
	}
}
