package tenantauth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

var ofKey = tenantauth.KeyQuery{Key: key, Scopes: []string{scope}}

// startForLimiter is a rig whose clock can be advanced while settlements are in flight: no response counts as late.
func startForLimiter(t *testing.T, options ...tenantauth.Option) *rig {
	t.Helper()
	return start(t, append(options, tenantauth.WithoutWatch(), unhedged)...)
}

func newLimiter(t *testing.T, client *tenantauth.Client) *tenantauth.LocalLimiter {
	t.Helper()
	limiter, err := client.NewLocalLimiter(metric)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		_ = limiter.Close(ctx)
	})
	return limiter
}

// takeLocally takes an amount, and waits until the limiter has reserved what it reserves ahead.
func (r *rig) takeLocally(limiter *tenantauth.LocalLimiter, amount int64) tenantauth.ConsumeResult {
	r.t.Helper()
	result, err := limiter.Consume(r.ctx, ofKey, amount)
	if err != nil {
		r.t.Fatal(err)
	}
	r.await("the reservation ahead", func() bool { return !tenantauth.IsReserving(limiter) })
	return result
}

// awaitSettled waits until no reservation is held.
func (r *rig) awaitSettled() {
	r.t.Helper()
	r.await("everything is settled", func() bool {
		return !slices.ContainsFunc(r.service.Reservations(), func(made fake.Reservation) bool { return made.State == held })
	})
}

func TestLocalLimiterSpendsChunksWithoutACallPerRequest(t *testing.T) {
	r := startForLimiter(t)
	r.service.PutLimit(metric, 10_000)
	limiter := newLimiter(t, r.client)
	for range 500 {
		if result := r.takeLocally(limiter, 1); !result.Allowed() || result.Validation.KeyID != "key_1" {
			t.Fatalf("%+v", result)
		}
	}
	if made := r.service.Calls("Reserve"); made > 20 {
		t.Errorf("%d reservations for 500 requests", made)
	}
	r.expectCalls("Consume", 0)
	r.expectCalls("ValidateKey", 1)
	for _, made := range r.service.Reservations() {
		if made.Amount > 1_000 || made.Request.GetExpiresIn().AsDuration() != 30*time.Second || made.Request.GetOnExpiry() != tenantauthv1.ReservationExpiry_RESERVATION_EXPIRY_CHARGE {
			t.Errorf("%+v", made.Request)
		}
	}
	if err := limiter.Close(r.ctx); err != nil {
		t.Fatal(err)
	}
	if left := r.service.Left(metric); left != 9_500 {
		t.Errorf("%d left after closing, want 9500", left)
	}
	if _, err := limiter.Consume(r.ctx, ofKey, 1); !errors.Is(err, tenantauth.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestChunkFollowsTheRateOfItsKey(t *testing.T) {
	r := startForLimiter(t)
	r.service.PutLimit(metric, 1_000_000)
	limiter := newLimiter(t, r.client)
	perSecond := func(rate, seconds int) int64 {
		for range seconds {
			for range rate {
				r.takeLocally(limiter, 1)
			}
			r.clock.Advance(time.Second)
		}
		all := r.service.Reservations()
		return all[len(all)-1].Amount
	}
	if size := perSecond(50, 8); size != 100 {
		t.Errorf("a chunk of %d at 50 per second", size)
	}
	if size := perSecond(3, 40); size != 6 {
		t.Errorf("a chunk of %d at 3 per second", size)
	}
}

func TestChunkIsGivenBackBeforeItExpires(t *testing.T) {
	r := startForLimiter(t)
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	for range 3 {
		r.takeLocally(limiter, 1)
	}
	before := r.service.Calls("Reserve")
	if r.service.Left(metric) == 97 {
		t.Fatal("nothing is held in advance")
	}
	r.clock.Advance(28*time.Second - 1)
	if _, err := limiter.Consume(r.ctx, ofKey, 1); err != nil || r.service.Calls("Reserve") != before {
		t.Errorf("just before: %v, %d reservations", err, r.service.Calls("Reserve")-before)
	}
	r.clock.Advance(1)
	r.awaitSettled()
	if left := r.service.Left(metric); left != 96 {
		t.Errorf("%d left after the margin", left)
	}
	r.takeLocally(limiter, 1)
	if made := r.service.Calls("Reserve"); made == before {
		t.Error("an expired chunk was spent")
	}
}

func TestRefusedChunkHalvesUntilTheLimitIsUsedUp(t *testing.T) {
	r := startForLimiter(t)
	const limit = 777
	r.service.PutLimit(metric, limit)
	limiter := newLimiter(t, r.client)
	admitted := 0
	var result tenantauth.ConsumeResult
	for result = r.takeLocally(limiter, 1); result.Allowed(); result = r.takeLocally(limiter, 1) {
		admitted++
	}
	if admitted != limit || result.Verdict != tenantauth.QuotaExceeded || !result.Limits[0].Denies() {
		t.Errorf("%d admitted, then %+v", admitted, result)
	}
	if after, ok := result.RetryAfter(); !ok || after != 90*time.Second {
		t.Errorf("%v, %v", after, ok)
	}
	r.awaitSettled()
	r.service.PutLimit(metric, 1)
	before := r.service.Calls("Reserve")
	if result := r.takeLocally(limiter, 1); result.Verdict != tenantauth.QuotaExceeded || len(result.Limits) != 1 || r.service.Calls("Reserve") != before {
		t.Errorf("a refusal was not remembered: %+v, %d calls", result, r.service.Calls("Reserve")-before)
	}
	r.clock.Advance(time.Second)
	if result := r.takeLocally(limiter, 2); result.Allowed() {
		t.Error("more was admitted than there is")
	}
	if result := r.takeLocally(limiter, 1); !result.Allowed() {
		t.Errorf("%+v", result)
	}
}

func TestRevokedKeyAdmitsNothingOfItsChunk(t *testing.T) {
	r, stream := startWatched(t)
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.takeLocally(limiter, 1)
	r.takeLocally(limiter, 1)
	revoke := func(revision int64) {
		stream.Invalidate(revision, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
		r.await("the invalidation", func() bool { return r.client.WatchState().Revision == revision })
	}
	r.service.Put(key, fake.At(20, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1")))
	revoke(20)
	if result := r.takeLocally(limiter, 1); result.Verdict != tenantauth.Revoked {
		t.Errorf("%+v", result)
	}
	r.awaitSettled()
	if left := r.service.Left(metric); left != 98 {
		t.Errorf("%d left", left)
	}
	r.service.Put(key, fake.At(30, fake.Valid("key_1", scope)))
	revoke(30)
	r.takeLocally(limiter, 1)
	r.takeLocally(limiter, 1)
	revoke(40)
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "ValidateKey" {
			return status.Error(codes.Internal, "undecided")
		}
		return nil
	})
	if _, err := limiter.Consume(r.ctx, ofKey, 1); !errors.Is(err, tenantauth.ErrOther) {
		t.Errorf("admitted without knowing whether the key is valid: %v", err)
	}
}

func TestDenialOfARequestDoesNotGiveTheChunkOfItsKeyBack(t *testing.T) {
	r := startForLimiter(t)
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.takeLocally(limiter, 1)
	r.takeLocally(limiter, 1)
	result, err := limiter.Consume(r.ctx, tenantauth.KeyQuery{Key: key, Scopes: []string{"admin"}}, 1)
	if err != nil || result.Verdict != tenantauth.InsufficientScope {
		t.Errorf("%+v, %v", result, err)
	}
	if all := r.service.Reservations(); all[len(all)-1].State != held {
		t.Errorf("%+v", all)
	}
}

func TestFailedReservationIsAnErrorAndIsCancelled(t *testing.T) {
	r := startForLimiter(t, tenantauth.WithAttempts(1))
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "Reserve" {
			return fake.Unavailable("LIMIT_UNDECIDED", time.Second)
		}
		return nil
	})
	if _, err := limiter.Consume(r.ctx, ofKey, 1); toError(t, err).Reason != "LIMIT_UNDECIDED" {
		t.Errorf("%v", err)
	}
	r.await("the cancellation", func() bool { return r.service.Calls("Cancel") == 1 })
}

func TestClosingTheClientClosesItsLimiters(t *testing.T) {
	r := startForLimiter(t)
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.takeLocally(limiter, 1)
	r.takeLocally(limiter, 1)
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	if left := r.service.Left(metric); left != 98 {
		t.Errorf("%d left", left)
	}
	if _, err := r.client.NewLocalLimiter(metric); !errors.Is(err, tenantauth.ErrClosed) {
		t.Errorf("%v", err)
	}
}
