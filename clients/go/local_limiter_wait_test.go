package tenantauth_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func TestSettlementIsRepeatedWhileTheReservationLasts(t *testing.T) {
	r := startForLimiter(t, tenantauth.WithAttempts(1))
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "Settle" && r.service.Calls("Settle") <= 2 {
			return status.Error(codes.Unavailable, "not now")
		}
		return nil
	})
	r.takeLocally(limiter, 1)
	// Retries wait by the clock of the client. The steps are small, because the reservation must not expire.
	r.await("the settlement", func() bool {
		r.clock.Advance(10 * time.Millisecond)
		return r.service.Reservations()[0].State == settled
	})
	if made := r.service.Calls("Settle"); made < 3 {
		t.Errorf("%d calls", made)
	}
	if err := limiter.Close(r.ctx); err != nil {
		t.Error(err)
	}
}

func TestCloseOfALimiterEndsWithItsContext(t *testing.T) {
	r := startForLimiter(t, tenantauth.WithTimeout(testTimeout))
	r.service.PutLimit(metric, 100)
	limiter := newLimiter(t, r.client)
	r.takeLocally(limiter, 1)
	r.takeLocally(limiter, 1)
	r.service.Before(func(ctx context.Context, method string, _ any) error {
		if method == "Settle" {
			<-ctx.Done()
		}
		return nil
	})
	ctx, cancel := context.WithCancel(r.ctx)
	closed := make(chan error, 1)
	before := r.service.Calls("Settle")
	go func() { closed <- limiter.Close(ctx) }()
	r.await("the settlement", func() bool { return r.service.Calls("Settle") > before })
	cancel()
	if err := <-closed; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTwoLimitersNeverAdmitMoreThanTheLimit(t *testing.T) {
	r := startForLimiter(t)
	other, err := tenantauth.New(r.service.Address(), tenantauth.WithoutWatch(), tenantauth.WithTimeout(testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	const limit = 3_000
	r.service.PutLimit(metric, limit)
	var admitted atomic.Int64
	limiters := []*tenantauth.LocalLimiter{newLimiter(t, r.client), newLimiter(t, other)}
	var all sync.WaitGroup
	for _, limiter := range limiters {
		for range 8 {
			all.Go(func() {
				for result, err := limiter.Consume(r.ctx, ofKey, 1); err == nil && result.Allowed(); result, err = limiter.Consume(r.ctx, ofKey, 1) {
					admitted.Add(1)
				}
			})
		}
	}
	all.Wait()
	var unspent int64
	for _, made := range r.service.Reservations() {
		if made.State == held {
			unspent += made.Amount
		}
	}
	if made := admitted.Load(); made > limit || made < limit-unspent {
		t.Errorf("%d admitted of %d while %d were held", made, limit, unspent)
	}
	for _, limiter := range limiters {
		if err := limiter.Close(r.ctx); err != nil {
			t.Error(err)
		}
	}
	if left := r.service.Left(metric); left != limit-admitted.Load() {
		t.Errorf("%d admitted and %d left of %d", admitted.Load(), left, limit)
	}
}

func TestInvalidLimiterIsRejectedByName(t *testing.T) {
	r := start(t, tenantauth.WithoutNearCache())
	for metric, field := range map[string]string{metric: "client", "No Metric": "metric"} {
		if _, err := r.client.NewLocalLimiter(metric); toError(t, err).Violations[0].Field != field {
			t.Errorf("%q: %v", metric, err)
		}
	}
	limiter := newLimiter(t, start(t).client)
	for _, amount := range []int64{0, 1_000_000_001} {
		if _, err := limiter.Consume(r.ctx, ofKey, amount); toError(t, err).Violations[0].Field != "amount" {
			t.Errorf("%d: %v", amount, err)
		}
	}
}

func TestWaitingRequestsAreServedInOrder(t *testing.T) {
	r := startForLimiter(t, tenantauth.WithTimeout(testTimeout))
	r.service.PutLimit(metric, 5)
	limiter := newLimiter(t, r.client)
	release := make(chan struct{})
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "Reserve" {
			<-release
		}
		return nil
	})
	ask := func(ctx context.Context, amount int64) <-chan error {
		waiting := tenantauth.Waiting(limiter)
		done := make(chan error, 1)
		go func() {
			result, err := limiter.Consume(ctx, ofKey, amount)
			if err == nil {
				_, err = result.Principal()
			}
			done <- err
		}()
		r.await("the request waits", func() bool { return tenantauth.Waiting(limiter) == waiting+1 })
		return done
	}
	first := ask(r.ctx, 5)
	ctx, cancel := context.WithCancel(r.ctx)
	impatient := ask(ctx, 1)
	last := ask(r.ctx, 1)
	cancel()
	if err := <-impatient; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the first request: %v", err)
	}
	if denied, ok := errors.AsType[*tenantauth.Denied](<-last); !ok || denied.Verdict != tenantauth.QuotaExceeded {
		t.Errorf("the last request: %v", denied)
	}
}
