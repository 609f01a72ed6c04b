package near_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

func TestInvalidationRemovesOlderAnswersOfItsSubject(t *testing.T) {
	subjects := map[string]near.Subject{
		"key":    {Kind: near.Key, ID: "key"},
		"tenant": {Kind: near.Tenant, ID: "tenant"},
	}
	for name, subject := range subjects {
		h := start(t, 10)
		h.request("old", lasting(6))
		h.request("new", lasting(7))
		other := lasting(1)
		other.Subjects = []near.Subject{{Kind: near.Key, ID: "tenant"}, {Kind: near.Tenant, ID: "key"}}
		h.request("other", other)
		h.cache.Invalidate(subject, 7)
		if h.cached("old") || !h.cached("new") || !h.cached("other") {
			t.Errorf("%s: old %t, new %t, other %t", name, h.cached("old"), h.cached("new"), h.cached("other"))
		}
	}
}

func TestAnswerInvalidatedInFlightIsNotCached(t *testing.T) {
	key := near.Subject{Kind: near.Key, ID: "key"}
	for revision, kept := range map[int64]bool{6: false, 7: true, 8: true} {
		h := start(t, 10)
		result := h.request("a", lasting(revision), func() { h.cache.Invalidate(key, 7) })
		if result.Value != "value" {
			t.Errorf("revision %d was not returned to the caller", revision)
		}
		if h.cached("a") != kept {
			t.Errorf("revision %d: cached is %t", revision, !kept)
		}
	}
}

func TestAnswerOfLaggingReplicaIsNotCached(t *testing.T) {
	h := start(t, 10)
	h.cache.RecordEvent(1)
	h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 7)
	h.request("a", lasting(6))
	if h.cached("a") {
		t.Error("an answer from before the change was cached after it")
	}
}

func TestAnswerWithoutSubjectsIsSupersededByAnyChange(t *testing.T) {
	elsewhere := near.Subject{Kind: near.Key, ID: "elsewhere"}
	nameless := near.Answer[string]{CacheableFor: allowed, Revision: 6}
	h := start(t, 10)
	h.request("during", nameless, func() { h.cache.Invalidate(elsewhere, 7) })
	h.request("after", nameless)
	named := lasting(6)
	h.request("named", named, func() { h.cache.Invalidate(elsewhere, 8) })
	if h.cached("during") || !h.cached("after") || !h.cached("named") {
		t.Errorf("during %t, after %t, named %t", h.cached("during"), h.cached("after"), h.cached("named"))
	}
}

func TestAnswerOlderThanEvictedChangeMarksHasNoWatchedLifetime(t *testing.T) {
	h := start(t, 10)
	h.cache.RecordEvent(1)
	for n := range int64(5_000) {
		h.cache.Invalidate(near.Subject{Kind: near.Key, ID: fmt.Sprint("other ", n)}, 10+n)
	}
	h.request("old", lasting(6))
	h.request("new", lasting(10_000))
	h.request("old during", lasting(6), func() { h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "another"}, 5_011) })
	if !h.cached("old") || h.cached("old during") {
		t.Error("an answer older than the evicted change marks must be cached for cacheable_for, unless it was in flight during a change")
	}
	h.beat(allowed, 6_000)
	if h.cached("old") || !h.cached("new") {
		t.Errorf("old %t, new %t", h.cached("old"), h.cached("new"))
	}
}

func TestStartOverClearsCacheAndRequestsInFlight(t *testing.T) {
	h := start(t, 10)
	h.cache.RecordEvent(50)
	h.request("a", lasting(50))
	h.cache.Invalidate(near.Subject{Kind: near.Key, ID: "key"}, 60)
	h.request("b", lasting(60), func() { h.cache.StartOver(3) })
	if h.cached("a") || h.cached("b") || h.cache.Len() != 0 {
		t.Error("an answer is still cached")
	}
	if live, revision := h.cache.WatchState(); live || revision != 3 {
		t.Errorf("live %t at %d", live, revision)
	}
	// The new log starts below the last revision. New answers must still be cached.
	h.cache.RecordEvent(3)
	h.request("a", lasting(3))
	h.beat(allowed, 3)
	if !h.cached("a") {
		t.Error("no answer is cached after starting over")
	}
}

func TestLocalChangeInvalidatesCacheAndRequestsInFlight(t *testing.T) {
	session := near.Subject{Kind: near.Session, ID: "session"}
	h := start(t, 10)
	about := lasting(1)
	about.Subjects = append(about.Subjects, session)
	h.request("known", about)
	query := near.Request{Digest: h.hasher.Digest("in flight")}
	_, err := h.cache.GetOrRequest(context.Background(), query, func(context.Context) (near.Answer[string], error) {
		h.cache.InvalidateLocal(session)
		return about, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.cached("known") || h.cached("in flight") {
		t.Error("an answer from before the change is cached")
	}
}

func TestLocalChangeRemovesNegativeAnswers(t *testing.T) {
	h := start(t, 20)
	h.request("strange", near.Answer[string]{CacheableFor: allowed, Revision: 1, Negative: true})
	h.request("another", lasting(1))
	h.cache.InvalidateLocal(near.Subject{Kind: near.Tenant, ID: "another tenant"})
	if h.cached("strange") || !h.cached("another") {
		t.Errorf("strange %t, another %t", h.cached("strange"), h.cached("another"))
	}
}

func TestStatementsAreOutdatedByLaterChangesOnly(t *testing.T) {
	h := start(t, 10)
	key, tenant := near.Subject{Kind: near.Key, ID: "key"}, near.Subject{Kind: near.Tenant, ID: "tenant"}
	expect := func(what string, revision int64, want bool) {
		t.Helper()
		if outdated := h.cache.IsOutdated(revision, key, tenant); outdated != want {
			t.Errorf("%s: revision %d is outdated: %t", what, revision, outdated)
		}
	}
	expect("without changes", 1, false)
	h.cache.Invalidate(key, 7)
	expect("after a change of the key", 6, true)
	expect("after a change of the key", 7, false)
	h.cache.Invalidate(tenant, 9)
	expect("after a change of the tenant", 8, true)
	h.cache.StartOver(10)
	expect("after starting over", 1, false)
}
