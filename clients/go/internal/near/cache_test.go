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
		Lasting:      true,
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
	answer.CacheableFor = 0
	h.cache.Heard(1)
	h.ask("a", answer)
	if h.known("a") {
		t.Error("it was kept")
	}
}

func TestAnAnswerEndsWithItsKey(t *testing.T) {
	h := start(t, 10)
	answer := lasting(1)
	answer.Ends = h.clock.Now().Add(time.Second)
	h.ask("a", answer)
	h.clock.Advance(time.Second - 1)
	if !h.known("a") {
		t.Error("it ended early")
	}
	h.clock.Advance(1)
	if h.known("a") {
		t.Error("it outlived its key")
	}
}

func TestAWatchedAnswerLastsLongerWhileTheStreamLives(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(1)
	h.ask("lasting", lasting(1))
	passing := lasting(1)
	passing.Lasting = false
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

func TestAnInvalidationDropsWhatIsOlderAndAboutIt(t *testing.T) {
	subjects := map[string]near.Subject{
		"key":    {Kind: near.Key, ID: "key"},
		"tenant": {Kind: near.Tenant, ID: "tenant"},
	}
	for name, subject := range subjects {
		h := start(t, 10)
		h.ask("old", lasting(6))
		h.ask("new", lasting(7))
		other := lasting(1)
		other.About = []near.Subject{{Kind: near.Key, ID: "tenant"}, {Kind: near.Tenant, ID: "key"}}
		h.ask("other", other)
		h.cache.Invalidate(subject, 7)
		if h.known("old") || !h.known("new") || !h.known("other") {
			t.Errorf("%s: old %t, new %t, other %t", name, h.known("old"), h.known("new"), h.known("other"))
		}
	}
}

func TestAnAnswerUnderWayDuringItsInvalidationIsNotKept(t *testing.T) {
	key := near.Subject{Kind: near.Key, ID: "key"}
	for revision, kept := range map[int64]bool{6: false, 7: true, 8: true} {
		h := start(t, 10)
		result := h.ask("a", lasting(revision), func() { h.cache.Invalidate(key, 7) })
		if result.Value != "value" {
			t.Errorf("revision %d was not handed out", revision)
		}
		if h.known("a") != kept {
			t.Errorf("revision %d: kept is %t", revision, !kept)
		}
	}
}

func TestAnAnswerOfAReplicaThatLagsBehindIsNotKept(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(1)
	h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 7)
	h.ask("a", lasting(6))
	if h.known("a") {
		t.Error("an answer from before the change was kept after it")
	}
}

func TestAnAnswerWithoutANameIsFencedByAnyChange(t *testing.T) {
	elsewhere := near.Subject{Kind: near.Key, ID: "elsewhere"}
	nameless := near.Answer[string]{CacheableFor: allowed, Revision: 6, Unattributed: true}
	h := start(t, 10)
	h.ask("during", nameless, func() { h.cache.Invalidate(elsewhere, 7) })
	h.ask("after", nameless)
	named := lasting(6)
	h.ask("named", named, func() { h.cache.Invalidate(elsewhere, 8) })
	if h.known("during") || !h.known("after") || !h.known("named") {
		t.Errorf("during %t, after %t, named %t", h.known("during"), h.known("after"), h.known("named"))
	}
}

func TestMoreChangesThanAreRememberedMakeOlderAnswersPass(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(1)
	for n := range int64(5_000) {
		h.cache.Invalidate(near.Subject{Kind: near.Key, ID: fmt.Sprint("other ", n)}, 10+n)
	}
	h.ask("old", lasting(6))
	h.ask("new", lasting(10_000))
	h.ask("old during", lasting(6), func() { h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "another"}, 5_011) })
	if !h.known("old") || h.known("old during") {
		t.Error("what may have changed unnoticed is good for the allowed time, unless it was under way")
	}
	h.beat(allowed, 6_000)
	if h.known("old") || !h.known("new") {
		t.Errorf("old %t, new %t", h.known("old"), h.known("new"))
	}
}

func TestStartingOverForgetsEverythingAndWhatIsUnderWay(t *testing.T) {
	h := start(t, 10)
	h.cache.Heard(50)
	h.ask("a", lasting(50))
	h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 60)
	h.ask("b", lasting(60), func() { h.cache.StartOver(3) })
	if h.known("a") || h.known("b") || h.cache.Len() != 0 {
		t.Error("something is still known")
	}
	if live, revision := h.cache.Watched(); live || revision != 3 {
		t.Errorf("live %t at %d", live, revision)
	}
	// The log began anew, below what was heard before: that must not keep anything from being learnt.
	h.cache.Heard(3)
	h.ask("a", lasting(3))
	h.beat(allowed, 3)
	if !h.known("a") {
		t.Error("nothing is learnt after starting over")
	}
}

func TestWhatThisClientChangedItselfIsForgottenAndNotLearntFromBefore(t *testing.T) {
	session := near.Subject{Kind: near.Session, ID: "session"}
	h := start(t, 10)
	about := lasting(1)
	about.About = append(about.About, session)
	h.ask("known", about)
	question := near.Question{Digest: h.hasher.Digest("under way"), Subject: session}
	_, err := h.cache.Ask(context.Background(), question, func(context.Context) (near.Answer[string], error) {
		h.cache.Forget(session)
		return about, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.known("known") || h.known("under way") {
		t.Error("something from before the change is known")
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
