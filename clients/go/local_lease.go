package tenantauth

import (
	"crypto/rand"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

const (
	// chunkExpiresIn is when a reservation ends by itself, and counts as used.
	chunkExpiresIn = 30 * time.Second
	// chunkMargin is how long before that a chunk is no longer spent, so that the rest can be given back in time.
	chunkMargin = 2 * time.Second
	// chunkPeriod is for how long a chunk should last.
	chunkPeriod = 2
	// maxChunk is the largest chunk, unless one request takes more.
	maxChunk = 1_000
	// refusalPeriod is for how long a refusal is remembered, at most.
	refusalPeriod = time.Second
	// ratePeriod is the time over which the rate of a key is measured.
	ratePeriod = time.Second
)

var settleBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: time.Second}

// chunk is an amount that was reserved for a key.
type chunk struct {
	id           string
	amount, left int64
	// usableUntil is when the rest is given back, and expiresAt when the reservation ends by itself, at the earliest.
	usableUntil, expiresAt time.Time
	// stopTimer stops the timer for usableUntil; nil if there is none.
	stopTimer func() bool
}

// localLease is what a limiter holds for one key. The lock of the limiter must be held for all its methods.
type localLease struct {
	// chunks that are not spent, oldest first.
	chunks []*chunk
	// waiters wait for the reservation in flight, in the order in which they are served.
	waiters    []*waiter
	isFetching bool
	usedAt     time.Time
	// largest limits the size of chunks: it halves when a reservation is refused, and doubles when one is made.
	largest int64
	// refused is the last reservation, if it was refused, and refusedAmount is what it would have reserved. The next one is
	// then not made ahead, and requests that need no less are denied until refusedUntil.
	refused       *Reservation
	refusedAmount int64
	refusedUntil  time.Time

	// taken is what was taken since the start of the current period, and earlier is the rate per second before it.
	taken       int64
	periodStart time.Time
	earlier     float64
}

func newLocalLease(now time.Time) *localLease {
	return &localLease{largest: maxChunk, periodStart: now}
}

// available returns what can be taken now.
func (l *localLease) available(now time.Time) (sum int64) {
	for _, held := range l.chunks {
		if now.Before(held.usableUntil) {
			sum += held.left
		}
	}
	return sum
}

// take takes an amount that is available, and returns the chunks that are spent now.
func (l *localLease) take(now time.Time, amount int64) (spent []*chunk) {
	l.perSecond(now)
	l.taken += amount
	for _, held := range l.chunks {
		if now.Before(held.usableUntil) {
			part := min(amount, held.left)
			held.left -= part
			amount -= part
		}
		if held.left == 0 {
			spent = append(spent, held)
		}
	}
	for _, held := range spent {
		l.remove(held)
	}
	return spent
}

// perSecond returns the rate at which amounts are taken. A period that has just begun counts as a whole one, so that a few
// requests at once do not look like a high rate.
func (l *localLease) perSecond(now time.Time) float64 {
	elapsed := now.Sub(l.periodStart)
	if elapsed >= ratePeriod {
		l.earlier = float64(l.taken) / elapsed.Seconds()
		l.taken, l.periodStart = 0, now
	}
	return max(l.earlier, float64(l.taken)/ratePeriod.Seconds())
}

// chunkSize returns the amount to reserve next: what the waiters need, or what is taken in the time of a chunk.
func (l *localLease) chunkSize(now time.Time) int64 {
	var waiting int64
	for _, each := range l.waiters {
		waiting += each.amount
	}
	wanted := int64(min(maxChunk, math.Ceil(l.perSecond(now)*chunkPeriod)))
	return max(1, min(l.largest, max(wanted, waiting)))
}

// isLow reports whether the next chunk should be reserved ahead: what is left lasts for less than half of a chunk's time.
// Keys that are used less than once a second need none.
func (l *localLease) isLow(now time.Time, left int64) bool {
	rate := l.perSecond(now)
	return rate >= 1 && float64(left) < rate*chunkPeriod/2
}

func (l *localLease) add(made *chunk) {
	l.chunks = append(l.chunks, made)
	l.largest, l.refused = min(maxChunk, l.largest*2), nil
}

func (l *localLease) refuse(refused *Reservation, amount int64, now time.Time) {
	l.largest = max(1, min(maxChunk, amount/2))
	period := refusalPeriod
	if after, ok := refused.RetryAfter(); ok {
		period = min(period, after)
	}
	l.refused, l.refusedAmount, l.refusedUntil = refused, amount, now.Add(period)
}

// denies reports whether a request that needs so much is denied without a call.
func (l *localLease) denies(need int64, now time.Time) bool {
	return l.refused != nil && need >= l.refusedAmount && now.Before(l.refusedUntil)
}

// endAll ends all waits in the same way.
func (l *localLease) endAll(outcome waitOutcome) {
	for _, waiting := range l.waiters {
		waiting.end(outcome)
	}
	l.waiters = nil
}

// giveUp reports whether the waiter was still waiting.
func (l *localLease) giveUp(gone *waiter) bool {
	index := slices.Index(l.waiters, gone)
	if index < 0 {
		return false
	}
	l.waiters = slices.Delete(l.waiters, index, index+1)
	return true
}

// remove reports whether the lease had the chunk.
func (l *localLease) remove(gone *chunk) bool {
	index := slices.Index(l.chunks, gone)
	if index < 0 {
		return false
	}
	l.chunks = slices.Delete(l.chunks, index, index+1)
	return true
}

func newReservationID() string { return rand.Text() }

// settleLater settles a chunk that is no longer spent. The lock must be held.
func (l *LocalLimiter) settleLater(done *chunk) {
	if done.stopTimer != nil {
		done.stopTimer()
	}
	left := done.left
	l.background.Go(func() {
		if err := l.settle(done, done.amount-left); err != nil && left > 0 {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lost = err
			l.client.options.logger.Warn("tenant-auth: a chunk of a local limiter could not be settled; it counts as used", "left", left, "error", err)
		}
	})
}

// settle settles a chunk, and retries it until the reservation ends by itself.
func (l *LocalLimiter) settle(done *chunk, spent int64) error {
	timing := l.client.options.clock
	for failures := 1; ; failures++ {
		_, err := l.client.settle(l.ctx, done.id, Cost{Metric: l.metric, Amount: spent})
		var known *Error
		if err == nil || !errors.As(err, &known) || !known.Transient() || !timing.Now().Before(done.expiresAt) {
			return err
		}
		if clock.Sleep(l.ctx, timing, settleBackoff.Delay(failures)) != nil {
			return err
		}
	}
}
