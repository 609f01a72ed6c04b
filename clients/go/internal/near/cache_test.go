package near_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

const (
	allowed = 5 * time.Second
	watched = time.Minute
)

type harness struct {
	t      *testing.T
	clock  *fakeclock.Clock
	cache  *near.Cache[string]
	hasher *near.Hasher
	asked  int
}

func start(t *testing.T, entries int) *harness {
	clock := fakeclock.New()
	config := near.Config{Entries: entries, WatchedFor: watched, Patience: time.Minute}
	return &harness{t: t, clock: clock, cache: near.New[string](clock, config), hasher: near.NewHasher()}
}

// lasting is an answer about the key "key" of the tenant "tenant".
func lasting(revision int64) near.Answer[string] {
	return near.Answer[string]{
		Value:        "value",
		CacheableFor: allowed,
		WhileWatched: watched,
		Revision:     revision,
		About:        []near.Subject{{Kind: near.Key, ID: "key"}, {Kind: near.Tenant, ID: "tenant"}},
	}
}

func (h *harness) ask(key string, answer near.Answer[string], meanwhile ...func()) near.Result[string] {
	h.t.Helper()
	question := near.Question{Digest: h.hasher.Digest(key)}
	result, err := h.cache.Ask(context.Background(), question, func(context.Context) (near.Answer[string], error) {
		h.asked++
		for _, event := range meanwhile {
			event()
		}
		return answer, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return result
}

func (h *harness) known(key string) bool {
	_, known := h.cache.Known(h.hasher.Digest(key))
	return known
}

// beat lets time pass while heartbeats come.
func (h *harness) beat(d time.Duration, revision int64) {
	for range d / time.Second {
		h.clock.Advance(time.Second)
		h.cache.Heard(revision)
	}
}

func TestAnAnswerIsKeptForAsLongAsAllowedFromBeforeItWasAskedFor(t *testing.T) {
	h := start(t, 10)
	h.ask("a", lasting(1), func() { h.clock.Advance(2 * time.Second) })
	h.clock.Advance(allowed - 2*time.Second - 1)
	if result := h.ask("a", lasting(1)); !result.Near || result.Age != allowed-1 {
		t.Errorf("just before the end: %+v", result)
	}
	// Being read a moment ago does not prolong it.
	h.clock.Advance(1)
	if h.known("a") {
		t.Error("it outlived what the service allowed")
	}
}

func TestAnAnswerThatMayNotBeKeptIsNot(t *testing.T) {
	h := start(t, 10)
	answer := lasting(1)
	answer.CacheableFor, answer.WhileWatched = 0, 0
	h.cache.Heard(1)
	h.ask("a", answer)
	if h.known("a") {
		t.Error("it was kept")
	}
}

func TestTheShorterOfWhatTheServiceAllowsAndTheOptionHolds(t *testing.T) {
	for allows, lasts := range map[time.Duration]time.Duration{30 * time.Second: 30 * time.Second, time.Hour: watched, time.Second: allowed} {
		h := start(t, 10)
		h.cache.Heard(1)
		answer := lasting(1)
		answer.WhileWatched = allows
		h.ask("a", answer)
		h.beat(lasts-time.Second, 1)
		if !h.known("a") {
			t.Errorf("%v: it was forgotten before %v", allows, lasts)
		}
		h.clock.Advance(time.Second)
		if h.known("a") {
			t.Errorf("%v: it outlived %v", allows, lasts)
		}
	}
}

func TestAnAnswerThatMayOnlyBeReusedWhileWatchedIsKept(t *testing.T) {
	h := start(t, 10)
	answer := lasting(1)
	answer.CacheableFor = 0
	h.cache.Heard(1)
	h.ask("a", answer)
	if !h.known("a") {
		t.Error("it was not kept")
	}
	h.clock.Advance(3*time.Second + 1)
	if h.known("a") {
		t.Error("it was used in silence")
	}
}

func TestAWatchedAnswerLastsLongerWhileTheStreamLives(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(1)
	h.ask("lasting", lasting(1))
	passing := lasting(1)
	passing.WhileWatched = 0
	h.ask("passing", passing)
	h.beat(allowed, 1)
	if !h.known("lasting") || h.known("passing") {
		t.Error("after the allowed time only the lasting answer is good")
	}
	h.beat(watched-allowed-time.Second, 1)
	if !h.known("lasting") {
		t.Error("the stream lived and it was forgotten")
	}
	h.clock.Advance(time.Second)
	if h.known("lasting") {
		t.Error("it outlived the longest time")
	}
}

func TestAnAnswerFromBeforeTheStreamDoesNotLast(t *testing.T) {
	h := start(t, 10)
	h.ask("before", lasting(1))
	h.cache.Heard(1)
	h.beat(allowed, 1)
	if h.known("before") {
		t.Error("what changed before the stream began was never told")
	}
}

func TestThreeSecondsOfSilenceEndTheTrustForGood(t *testing.T) {
	for silence, trusted := range map[time.Duration]bool{3 * time.Second: true, 3*time.Second + 1: false} {
		h := start(t, 10)
		h.cache.Heard(1)
		h.ask("a", lasting(1))
		h.beat(10*time.Second, 1)
		h.clock.Advance(silence)
		h.cache.Heard(1)
		if h.known("a") != trusted {
			t.Errorf("after %v of silence: trusted is %t", silence, !trusted)
		}
	}
}

func TestInSilenceAnAnswerIsNotUsedEvenBeforeTheStreamIsHeardAgain(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(1)
	h.ask("a", lasting(1))
	h.beat(10*time.Second, 1)
	h.clock.Advance(3*time.Second + 1)
	if h.known("a") {
		t.Error("it was used although nothing was heard")
	}
	if live, _ := h.cache.Watched(); live {
		t.Error("the stream counts as live")
	}
}

func TestTheLeastRecentlyUsedAnswerGoesFirst(t *testing.T) {
	h := start(t, 3)
	for _, key := range []string{"a", "b", "c"} {
		h.ask(key, lasting(1))
	}
	h.known("a")
	h.ask("d", lasting(1))
	for key, kept := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if h.known(key) != kept {
			t.Errorf("%s: kept is %t", key, !kept)
		}
	}
	for n := range 100 {
		h.ask(fmt.Sprint(n), lasting(1))
	}
	if h.cache.Len() != 3 {
		t.Errorf("%d answers are kept", h.cache.Len())
	}
}

func TestStrangersPushOutNobodyElse(t *testing.T) {
	h := start(t, 20)
	h.ask("known", lasting(1))
	for n := range 1_000 {
		h.ask(fmt.Sprint("made up ", n), near.Answer[string]{CacheableFor: allowed, Revision: 1, Strange: true})
	}
	if !h.known("known") || h.known("made up 0") || !h.known("made up 999") || h.cache.Len() != 3 {
		t.Errorf("known %t, first %t, last %t, %d in all", h.known("known"), h.known("made up 0"), h.known("made up 999"), h.cache.Len())
	}
}

func TestAKeyThatBecomesKnownIsNoStrangerAnyMore(t *testing.T) {
	h := start(t, 20)
	strange := near.Answer[string]{CacheableFor: time.Second, Revision: 1, Strange: true}
	h.ask("a", strange)
	h.clock.Advance(time.Second)
	h.ask("a", lasting(2))
	if !h.known("a") || h.cache.Len() != 1 {
		t.Errorf("known %t, %d in all", h.known("a"), h.cache.Len())
	}
	h.clock.Advance(allowed)
	h.ask("a", strange)
	h.clock.Advance(time.Second)
	if h.known("a") {
		t.Error("it outlived what the service allows")
	}
}

func TestAnAnswerFromBeforeTheStreamsFirstRevisionDoesNotLast(t *testing.T) {
	h := start(t, 10)
	// What was told up to 7 was told to others.
	h.cache.Heard(7)
	h.ask("before", lasting(6))
	h.ask("since", lasting(7))
	h.beat(allowed, 8)
	if h.known("before") || !h.known("since") {
		t.Errorf("before %t, since %t", h.known("before"), h.known("since"))
	}
}

func TestAnErrorIsNotKept(t *testing.T) {
	h := start(t, 10)
	failure := errors.New("failure")
	question := near.Question{Digest: h.hasher.Digest("a")}
	_, err := h.cache.Ask(context.Background(), question, func(context.Context) (near.Answer[string], error) {
		return lasting(1), failure
	})
	if !errors.Is(err, failure) || h.known("a") {
		t.Errorf("%v, known %t", err, h.known("a"))
	}
}

func TestDigestsTellPartsApartAndAreNotRepeatableElsewhere(t *testing.T) {
	hasher := near.NewHasher()
	if first, second := hasher.Digest("a", "b"), hasher.Digest("a", "b"); first != second {
		t.Error("a digest is not repeatable")
	}
	if hasher.Digest("ab") == hasher.Digest("a", "b") || hasher.Digest("a", "") == hasher.Digest("a") {
		t.Error("parts run into each other")
	}
	if near.NewHasher().Digest("a") == hasher.Digest("a") {
		t.Error("two hashers share their secret")
	}
}
