// Package retry decides whether and when a failed call is made again.
package retry

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// deposit is what each call adds: in the long run one retry for ten calls.
	deposit = 0.1
	// most bounds a burst of retries, and is there from the start so that a quiet client may retry too.
	most = 10
)

// Budget keeps retries from multiplying the load on a service that is in trouble already.
type Budget struct {
	mu     sync.Mutex
	tokens float64
}

// NewBudget is a full budget.
func NewBudget() *Budget { return &Budget{tokens: most} }

// Called is to be told of each call, not of its retries.
func (b *Budget) Called() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(most, b.tokens+deposit)
}

// Take tells whether one more retry may be made.
func (b *Budget) Take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Backoff is a ceiling that doubles, under which the wait is random: callers that failed together do not return together.
type Backoff struct {
	// First is the ceiling of the first wait.
	First time.Duration
	// Max is the ceiling that is never passed.
	Max time.Duration
}

// Wait is how long to wait after so many failures, 1 or more.
func (b Backoff) Wait(failures int) time.Duration {
	ceiling := b.Max
	// Beyond 30 doublings the shift says nothing any more.
	if failures <= 30 {
		ceiling = min(b.Max, b.First<<(failures-1))
	}
	return rand.N(ceiling + 1)
}
