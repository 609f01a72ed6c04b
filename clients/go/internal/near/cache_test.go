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
	t        *testing.T
	clock    *fakeclock.Clock
	cache    *near.Cache[string]
	hasher   *near.Hasher
	requests int
}

func start(t *testing.T, entries int) *harness {
	clock := fakeclock.New()
	config := near.Config{Entries: entries, WatchedFor: watched, MinTimeout: time.Minute}
	return &harness{t: t, clock: clock, cache: near.New[string](clock, config), hasher: near.NewHasher()}
}

// lasting returns an answer about the key "key" of the tenant "tenant".
func lasting(revision int64) near.Answer[string] {
	return near.Answer[string]{
		Value:        "value",
		CacheableFor: allowed,
		WhileWatched: watched,
		Revision:     revision,
		Subjects:     []near.Subject{{Kind: near.Key, ID: "key"}, {Kind: near.Tenant, ID: "tenant"}},
	}
}

func (h *harness) request(key string, answer near.Answer[string], meanwhile ...func()) near.Result[string] {
	h.t.Helper()
	query := near.Request{Digest: h.hasher.Digest(key)}
	result, err := h.cache.GetOrRequest(context.Background(), query, func(context.Context) (near.Answer[string], error) {
		h.requests++
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

func (h *harness) cached(key string) bool {
	_, known := h.cache.Get(h.hasher.Digest(key))
	return known
}

// beat advances the clock while heartbeats arrive.
func (h *harness) beat(d time.Duration, revision int64) {
	for range d / time.Second {
		h.clock.Advance(time.Second)
		h.cache.RecordEvent(revision)
	}
}

func TestAnswerIsCachedForTheAllowedTimeSinceTheRequest(t *testing.T) {
	h := start(t, 10)
	h.request("a", lasting(1), func() { h.clock.Advance(2 * time.Second) })
	h.clock.Advance(allowed - 2*time.Second - 1)
	if result := h.request("a", lasting(1)); !result.FromCache || result.Age != allowed-1 {
		t.Errorf("just before the expiry: %+v", result)
	}
	// A read does not extend the lifetime.
	h.clock.Advance(1)
	if h.cached("a") {
		t.Error("cached for longer than the service allows")
	}
}

func TestUncacheableAnswerIsNotCached(t *testing.T) {
	h := start(t, 10)
	answer := lasting(1)
	answer.CacheableFor, answer.WhileWatched = 0, 0
	h.cache.RecordEvent(1)
	h.request("a", answer)
	if h.cached("a") {
		t.Error("the answer was cached")
	}
}

func TestShorterOfServiceLimitAndOptionApplies(t *testing.T) {
	for allows, lasts := range map[time.Duration]time.Duration{30 * time.Second: 30 * time.Second, time.Hour: watched, time.Second: allowed} {
		h := start(t, 10)
		h.cache.RecordEvent(1)
		answer := lasting(1)
		answer.WhileWatched = allows
		h.request("a", answer)
		h.beat(lasts-time.Second, 1)
		if !h.cached("a") {
			t.Errorf("%v: expired before %v", allows, lasts)
		}
		h.clock.Advance(time.Second)
		if h.cached("a") {
			t.Errorf("%v: cached for longer than %v", allows, lasts)
		}
	}
}

func TestAnswerCacheableOnlyWhileWatchedIsCached(t *testing.T) {
	h := start(t, 10)
	answer := lasting(1)
	answer.CacheableFor = 0
	h.cache.RecordEvent(1)
	h.request("a", answer)
	if !h.cached("a") {
		t.Error("the answer was not cached")
	}
	h.clock.Advance(3*time.Second + 1)
	if h.cached("a") {
		t.Error("the answer was used while the stream was silent")
	}
}

func TestWatchedAnswerLastsLongerWhileTheStreamIsLive(t *testing.T) {
	h := start(t, 10)
	h.cache.RecordEvent(1)
	h.request("lasting", lasting(1))
	passing := lasting(1)
	passing.WhileWatched = 0
	h.request("passing", passing)
	h.beat(allowed, 1)
	if !h.cached("lasting") || h.cached("passing") {
		t.Error("after cacheable_for only the watched answer must be usable")
	}
	h.beat(watched-allowed-time.Second, 1)
	if !h.cached("lasting") {
		t.Error("expired although the stream was live")
	}
	h.clock.Advance(time.Second)
	if h.cached("lasting") {
		t.Error("cached for longer than the watched lifetime")
	}
}

func TestAnswerFromBeforeTheStreamHasNoWatchedLifetime(t *testing.T) {
	h := start(t, 10)
	h.request("before", lasting(1))
	h.cache.RecordEvent(1)
	h.beat(allowed, 1)
	if h.cached("before") {
		t.Error("the stream did not cover the time of the request, but the watched lifetime applied")
	}
}

func TestWatchedLifetimeEndsForGoodAfterThreeSecondsOfSilence(t *testing.T) {
	for silence, trusted := range map[time.Duration]bool{3 * time.Second: true, 3*time.Second + 1: false} {
		h := start(t, 10)
		h.cache.RecordEvent(1)
		h.request("a", lasting(1))
		h.beat(10*time.Second, 1)
		h.clock.Advance(silence)
		h.cache.RecordEvent(1)
		if h.cached("a") != trusted {
			t.Errorf("after %v without an event: usable is %t", silence, !trusted)
		}
	}
}

func TestAnswerIsNotUsedWhileTheStreamIsSilent(t *testing.T) {
	h := start(t, 10)
	h.cache.RecordEvent(1)
	h.request("a", lasting(1))
	h.beat(10*time.Second, 1)
	h.clock.Advance(3*time.Second + 1)
	if h.cached("a") {
		t.Error("the answer was used although the stream was silent")
	}
	if live, _ := h.cache.WatchState(); live {
		t.Error("the silent stream is reported as live")
	}
}

func TestLeastRecentlyUsedAnswerIsEvictedFirst(t *testing.T) {
	h := start(t, 3)
	for _, key := range []string{"a", "b", "c"} {
		h.request(key, lasting(1))
	}
	h.cached("a")
	h.request("d", lasting(1))
	for key, kept := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if h.cached(key) != kept {
			t.Errorf("%s: cached is %t", key, !kept)
		}
	}
	for n := range 100 {
		h.request(fmt.Sprint(n), lasting(1))
	}
	if h.cache.Len() != 3 {
		t.Errorf("%d answers are cached", h.cache.Len())
	}
}

func TestNegativeAnswersDoNotEvictOthers(t *testing.T) {
	h := start(t, 20)
	h.request("known", lasting(1))
	for n := range 1_000 {
		h.request(fmt.Sprint("made up ", n), near.Answer[string]{CacheableFor: allowed, Revision: 1, Negative: true})
	}
	if !h.cached("known") || h.cached("made up 0") || !h.cached("made up 999") || h.cache.Len() != 3 {
		t.Errorf("known %t, first %t, last %t, %d in all", h.cached("known"), h.cached("made up 0"), h.cached("made up 999"), h.cache.Len())
	}
}

func TestPositiveAnswerReplacesNegativeAnswer(t *testing.T) {
	h := start(t, 20)
	strange := near.Answer[string]{CacheableFor: time.Second, Revision: 1, Negative: true}
	h.request("a", strange)
	h.clock.Advance(time.Second)
	h.request("a", lasting(2))
	if !h.cached("a") || h.cache.Len() != 1 {
		t.Errorf("known %t, %d in all", h.cached("a"), h.cache.Len())
	}
	h.clock.Advance(allowed)
	h.request("a", strange)
	h.clock.Advance(time.Second)
	if h.cached("a") {
		t.Error("cached for longer than the service allows")
	}
}

func TestAnswerBelowTheFirstStreamRevisionHasNoWatchedLifetime(t *testing.T) {
	h := start(t, 10)
	// Changes up to revision 7 were not sent on this stream.
	h.cache.RecordEvent(7)
	h.request("before", lasting(6))
	h.request("since", lasting(7))
	h.beat(allowed, 8)
	if h.cached("before") || !h.cached("since") {
		t.Errorf("before %t, since %t", h.cached("before"), h.cached("since"))
	}
}

func TestErrorIsNotCached(t *testing.T) {
	h := start(t, 10)
	failure := errors.New("failure")
	query := near.Request{Digest: h.hasher.Digest("a")}
	_, err := h.cache.GetOrRequest(context.Background(), query, func(context.Context) (near.Answer[string], error) {
		return lasting(1), failure
	})
	if !errors.Is(err, failure) || h.cached("a") {
		t.Errorf("%v, known %t", err, h.cached("a"))
	}
}

func TestDigestsSeparatePartsAndDifferBetweenHashers(t *testing.T) {
	hasher := near.NewHasher()
	if first, second := hasher.Digest("a", "b"), hasher.Digest("a", "b"); first != second {
		t.Error("the digests of the same parts differ")
	}
	if hasher.Digest("ab") == hasher.Digest("a", "b") || hasher.Digest("a", "") == hasher.Digest("a") {
		t.Error("different lists of parts have the same digest")
	}
	if near.NewHasher().Digest("a") == hasher.Digest("a") {
		t.Error("two hashers have the same secret")
	}
}
