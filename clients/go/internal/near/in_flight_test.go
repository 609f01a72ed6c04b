package near_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// These tests run in synctest bubbles, in which waiting takes no real time.

func inBubble(t *testing.T, test func(t *testing.T, cache *near.Cache[string], query near.Request)) {
	synctest.Test(t, func(t *testing.T) {
		config := near.Config{Entries: 10, WatchedFor: watched, MinTimeout: time.Second}
		cache := near.New[string](clock.System{}, config)
		test(t, cache, near.Request{Digest: near.NewHasher().Digest("a")})
	})
}

func TestIdenticalConcurrentRequestsAreMerged(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		release, asked := make(chan struct{}), 0
		var all sync.WaitGroup
		for range 1_000 {
			all.Go(func() {
				result, err := cache.GetOrRequest(t.Context(), query, func(context.Context) (near.Answer[string], error) {
					asked++
					<-release
					return lasting(1), nil
				})
				if err != nil || result.Value != "value" || result.FromCache {
					t.Errorf("%+v, %v", result, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		if asked != 1 {
			t.Errorf("%d requests, want 1", asked)
		}
	})
}

func TestCancelledCallerDoesNotAffectOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		release := make(chan struct{})
		ask := func(ctx context.Context) (near.Answer[string], error) {
			select {
			case <-release:
				return lasting(1), nil
			case <-ctx.Done():
				return near.Answer[string]{}, ctx.Err()
			}
		}
		impatient, giveUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := cache.GetOrRequest(impatient, query, ask); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled caller: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if result, err := cache.GetOrRequest(t.Context(), query, ask); err != nil || result.Value != "value" {
				t.Errorf("other caller: %+v, %v", result, err)
			}
		})
		synctest.Wait()
		giveUp()
		synctest.Wait()
		close(release)
		all.Wait()
	})
}

func TestCallerWithMoreTimeRetriesAfterSharedTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		asked := 0
		ask := func(ctx context.Context) (near.Answer[string], error) {
			if asked++; asked == 1 {
				<-ctx.Done()
				return near.Answer[string]{}, ctx.Err()
			}
			return lasting(1), nil
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := cache.GetOrRequest(t.Context(), query, ask); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("first caller: %v", err)
			}
		})
		synctest.Wait()
		patient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		all.Go(func() {
			if result, err := cache.GetOrRequest(patient, query, ask); err != nil || result.Value != "value" {
				t.Errorf("caller with more time: %+v, %v", result, err)
			}
		})
		all.Wait()
	})
}

func TestTimedOutCallerGetsTheLastAttemptError(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		failure := errors.New("failure")
		ask := func(ctx context.Context) (near.Answer[string], error) {
			near.ReportRetry(ctx, failure)
			<-ctx.Done()
			return near.Answer[string]{}, ctx.Err()
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := cache.GetOrRequest(short, query, ask); !errors.Is(err, failure) {
			t.Errorf("timed out: %v", err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := cache.GetOrRequest(cancelled, query, ask); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		// The request itself continues until its own timeout.
		time.Sleep(2 * time.Second)
	})
}

// pendingRequest starts a request that has no answer until the returned function is called, which waits for its end.
func pendingRequest(t *testing.T, cache *near.Cache[string], query near.Request, answer near.Answer[string]) func() {
	release := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = cache.GetOrRequest(t.Context(), query, func(context.Context) (near.Answer[string], error) {
			<-release
			return answer, nil
		})
	})
	synctest.Wait()
	return func() {
		close(release)
		all.Wait()
	}
}

func TestCallerDoesNotJoinRequestFromBeforeAChange(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		release := pendingRequest(t, cache, query, lasting(6))
		cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 7)
		after := lasting(7)
		after.Value = "after"
		result, err := cache.GetOrRequest(t.Context(), query, func(context.Context) (near.Answer[string], error) { return after, nil })
		if err != nil || result.Value != "after" {
			t.Errorf("%+v, %v", result, err)
		}
		release()
		if known, _ := cache.Get(query.Digest); known.Value != "after" {
			t.Errorf("%q is cached", known.Value)
		}
	})
}

func TestSlowAnswerDoesNotReplaceNewerOne(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], query near.Request) {
		release := pendingRequest(t, cache, query, lasting(1))
		time.Sleep(time.Millisecond)
		cache.Invalidate(near.Subject{Kind: near.Key, ID: "elsewhere"}, 1)
		after := lasting(1)
		after.Value = "after"
		_, _ = cache.GetOrRequest(t.Context(), query, func(context.Context) (near.Answer[string], error) { return after, nil })
		release()
		synctest.Wait()
		if known, _ := cache.Get(query.Digest); known.Value != "after" {
			t.Errorf("%q is cached", known.Value)
		}
	})
}
