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

// These tests run in bubbles of synctest, in which waiting takes no time.

func inBubble(t *testing.T, test func(t *testing.T, cache *near.Cache[string], question near.Question)) {
	synctest.Test(t, func(t *testing.T) {
		config := near.Config{Entries: 10, WatchedFor: watched, Patience: time.Second}
		cache := near.New[string](clock.System{}, config)
		test(t, cache, near.Question{Digest: near.NewHasher().Digest("a")})
	})
}

func TestManyWhoAskTheSameAreOneQuestion(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
		release, asked := make(chan struct{}), 0
		var all sync.WaitGroup
		for range 1_000 {
			all.Go(func() {
				result, err := cache.Ask(t.Context(), question, func(context.Context) (near.Answer[string], error) {
					asked++
					<-release
					return lasting(1), nil
				})
				if err != nil || result.Value != "value" || result.Near {
					t.Errorf("%+v, %v", result, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		if asked != 1 {
			t.Errorf("%d questions", asked)
		}
	})
}

func TestOneWhoGivesUpLeavesTheOthersAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
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
			if _, err := cache.Ask(impatient, question, ask); !errors.Is(err, context.Canceled) {
				t.Errorf("the one who gave up got %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if result, err := cache.Ask(t.Context(), question, ask); err != nil || result.Value != "value" {
				t.Errorf("the other one got %+v, %v", result, err)
			}
		})
		synctest.Wait()
		giveUp()
		synctest.Wait()
		close(release)
		all.Wait()
	})
}

func TestOneWithMoreTimeAsksAgainWhenTheSharedQuestionRunsOutOfIt(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
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
			if _, err := cache.Ask(t.Context(), question, ask); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first one got %v", err)
			}
		})
		synctest.Wait()
		patient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		all.Go(func() {
			if result, err := cache.Ask(patient, question, ask); err != nil || result.Value != "value" {
				t.Errorf("the patient one got %+v, %v", result, err)
			}
		})
		all.Wait()
	})
}

func TestOneWhoseTimeIsOverLearnsWhatItWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
		failure := errors.New("failure")
		ask := func(ctx context.Context) (near.Answer[string], error) {
			near.Note(ctx, failure)
			<-ctx.Done()
			return near.Answer[string]{}, ctx.Err()
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := cache.Ask(short, question, ask); !errors.Is(err, failure) {
			t.Errorf("late: %v", err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := cache.Ask(cancelled, question, ask); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		// The question itself goes on, until its own time is over.
		time.Sleep(2 * time.Second)
	})
}

func TestNobodyJoinsAQuestionFromBeforeAChange(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = cache.Ask(t.Context(), question, func(context.Context) (near.Answer[string], error) {
				<-release
				return lasting(6), nil
			})
		})
		synctest.Wait()
		cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 7)
		after := lasting(7)
		after.Value = "after"
		result, err := cache.Ask(t.Context(), question, func(context.Context) (near.Answer[string], error) { return after, nil })
		if err != nil || result.Value != "after" {
			t.Errorf("%+v, %v", result, err)
		}
		close(release)
		all.Wait()
		if known, _ := cache.Known(question.Digest); known.Value != "after" {
			t.Errorf("%q is remembered", known.Value)
		}
	})
}

func TestAnAnswerThatTookItsTimeDoesNotReplaceAYoungerOne(t *testing.T) {
	inBubble(t, func(t *testing.T, cache *near.Cache[string], question near.Question) {
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = cache.Ask(t.Context(), question, func(context.Context) (near.Answer[string], error) {
				<-release
				return lasting(1), nil
			})
		})
		synctest.Wait()
		time.Sleep(time.Millisecond)
		cache.Invalidate(near.Subject{Kind: near.Key, ID: "elsewhere"}, 1)
		after := lasting(1)
		after.Value = "after"
		_, _ = cache.Ask(t.Context(), question, func(context.Context) (near.Answer[string], error) { return after, nil })
		close(release)
		all.Wait()
		synctest.Wait()
		if known, _ := cache.Known(question.Digest); known.Value != "after" {
			t.Errorf("%q is remembered", known.Value)
		}
	})
}
