// Package retry decides whether and when a failed call is retried.
package retry

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// deposit is what each call adds to the budget: on average one retry per ten calls.
	deposit = 0.1
	// maxTokens limits a burst of retries. The budget starts full, so that a client with few calls can retry too.
	maxTokens = 10
)

// Budget prevents retries from multiplying the load on a service that is already in trouble.
type Budget struct {
	mu     sync.Mutex
	tokens float64
}

// NewBudget creates a full budget.
func NewBudget() *Budget { return &Budget{tokens: maxTokens} }

// Deposit must be called once per call, not for its retries.
func (b *Budget) Deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(maxTokens, b.tokens+deposit)
}

// TryWithdraw reports whether one more retry is allowed, and withdraws it.
func (b *Budget) TryWithdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Backoff is exponential backoff with full jitter: the delay is random below a limit that doubles, so that callers that
// failed together do not retry together.
type Backoff struct {
	// First is the limit of the first delay.
	First time.Duration
	// Max is the maximum limit.
	Max time.Duration
}

// Delay returns the delay after the given number of failures, 1 or more.
func (b Backoff) Delay(failures int) time.Duration {
	ceiling := b.Max
	// More than 30 doublings would overflow the shift.
	if failures <= 30 {
		ceiling = min(b.Max, b.First<<(failures-1))
	}
	return rand.N(ceiling + 1)
}
