package retry_test

import (
	"testing"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

func TestABudgetAllowsABurstAndThenOneRetryInTenCalls(t *testing.T) {
	budget := retry.NewBudget()
	taken := 0
	for budget.Take() {
		taken++
	}
	if taken != 10 {
		t.Fatalf("the burst was %d retries, not 10", taken)
	}
	for range 1_000 {
		budget.Called()
		if budget.Take() {
			taken++
		}
	}
	// Tenths do not add up exactly in binary: one more or less is no matter.
	if retries := taken - 10; retries < 90 || retries > 100 {
		t.Errorf("1000 calls allowed %d retries", retries)
	}
}

func TestAWaitIsRandomUnderACeilingThatDoublesUpToTheMaximum(t *testing.T) {
	backoff := retry.Backoff{First: 100 * time.Millisecond, Max: time.Second}
	for failures, ceiling := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 1 << 20: time.Second,
	} {
		seen := map[time.Duration]bool{}
		for range 200 {
			wait := backoff.Wait(failures)
			if wait < 0 || wait > ceiling {
				t.Fatalf("after %d failures: %v, beyond %v", failures, wait, ceiling)
			}
			seen[wait] = true
		}
		if len(seen) < 100 {
			t.Errorf("after %d failures: only %d different waits of 200", failures, len(seen))
		}
	}
}
