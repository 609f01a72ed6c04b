package near_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

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
	nameless := near.Answer[string]{CacheableFor: allowed, Revision: 6}
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
	question := near.Question{Digest: h.hasher.Digest("under way")}
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

func TestWhatThisClientChangedItselfMayHaveMadeWhatWasNotThere(t *testing.T) {
	h := start(t, 20)
	h.ask("strange", near.Answer[string]{CacheableFor: allowed, Revision: 1, Strange: true})
	h.ask("another", lasting(1))
	h.cache.Forget(near.Subject{Kind: near.Tenant, ID: "another tenant"})
	if h.known("strange") || !h.known("another") {
		t.Errorf("strange %t, another %t", h.known("strange"), h.known("another"))
	}
}
