package retry_test

import (
	"testing"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

func TestBudgetAllowsBurstThenOneRetryPerTenCalls(t *testing.T) {
	budget := retry.NewBudget()
	taken := 0
	for budget.TryWithdraw() {
		taken++
	}
	if taken != 10 {
		t.Fatalf("burst of %d retries, want 10", taken)
	}
	for range 1_000 {
		budget.Deposit()
		if budget.TryWithdraw() {
			taken++
		}
	}
	// Tenths do not add up exactly in binary, so one retry more or less is accepted.
	if retries := taken - 10; retries < 90 || retries > 100 {
		t.Errorf("1000 calls allowed %d retries", retries)
	}
}

func TestDelayIsRandomBelowALimitThatDoubles(t *testing.T) {
	backoff := retry.Backoff{First: 100 * time.Millisecond, Max: time.Second}
	for failures, ceiling := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 1 << 20: time.Second,
	} {
		seen := map[time.Duration]bool{}
		for range 200 {
			wait := backoff.Delay(failures)
			if wait < 0 || wait > ceiling {
				t.Fatalf("after %d failures: delay %v exceeds %v", failures, wait, ceiling)
			}
			seen[wait] = true
		}
		if len(seen) < 100 {
			t.Errorf("after %d failures: only %d different delays of 200", failures, len(seen))
		}
	}
}
