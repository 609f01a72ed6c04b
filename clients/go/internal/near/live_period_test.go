package near_test

import (
	"testing"
	"time"
)

func TestLivePeriodEndsThreeSecondsAfterTheLastEvent(t *testing.T) {
	h := start(t, 10)
	expect := func(what string, period int, remaining time.Duration) {
		t.Helper()
		if found, left := h.cache.LivePeriod(); found != period || left != remaining {
			t.Errorf("%s: period %d for %v", what, found, left)
		}
	}
	expect("without events", 0, 0)
	h.cache.RecordEvent(1)
	h.clock.Advance(time.Second)
	expect("after an event", 1, 2*time.Second)
	h.clock.Advance(2 * time.Second)
	expect("at the last instant", 1, 0)
	h.clock.Advance(1)
	expect("after the silence", 0, 0)
	h.cache.RecordEvent(1)
	expect("after the next event", 2, 3*time.Second)
	h.cache.MarkBroken()
	expect("after the stream was broken", 0, 0)
}

func TestStreamReportsChangesAfterAnswersOfItsPeriod(t *testing.T) {
	h := start(t, 10)
	expect := func(what string, key string, revision int64, want bool) {
		t.Helper()
		if result := h.request(key, lasting(revision)); h.cache.ReportsChangesAfter(result.Period, revision) != want {
			t.Errorf("%s: %t", what, !want)
		}
	}
	expect("requested before the stream", "before", 7, false)
	h.cache.RecordEvent(7)
	expect("cached from before the stream", "before", 7, false)
	expect("requested during the stream", "during", 7, true)
	expect("cached from during the stream", "during", 7, true)
	expect("of a replica that lags behind the start", "lagging", 6, false)
	h.cache.StartOver(9)
	expect("after starting over", "after", 9, false)
	h.cache.RecordEvent(9)
	expect("after the next event", "next", 9, true)
}
