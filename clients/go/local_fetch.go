package tenantauth

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// waiter is a request that waits for a chunk. Requests of a key are served in order, so that none waits for long.
type waiter struct {
	// ctx and key are used to reserve.
	ctx    context.Context
	key    Key
	amount int64
	// done is closed after outcome was set.
	done    chan struct{}
	outcome waitOutcome
}

// waitOutcome is the end of a wait. The zero value admits the request.
type waitOutcome struct {
	denied *Reservation
	err    error
	// isAgain is true if the key was denied in the meantime, and must be validated again.
	isAgain bool
}

func (w *waiter) end(outcome waitOutcome) {
	w.outcome = outcome
	close(w.done)
}

// takeOrWait takes the amount from what is held for the key. If that is not enough, or if others wait for it, it returns a
// waiter.
func (l *LocalLimiter) takeOrWait(ctx context.Context, digest near.Digest, key Key, amount int64) (*waiter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, closedError()
	}
	now := l.client.options.clock.Now()
	lease := l.leases[digest]
	if lease == nil {
		lease = newLocalLease(now)
		l.leases[digest] = lease
	}
	lease.usedAt = now
	if len(lease.waiters) == 0 && lease.available(now) >= amount {
		l.take(lease, now, amount)
		l.fetchAhead(ctx, digest, lease, key, now)
		return nil, nil
	}
	made := &waiter{ctx: ctx, key: key, amount: amount, done: make(chan struct{})}
	if lease.denies(amount-lease.available(now), now) {
		made.end(waitOutcome{denied: lease.refused})
		return made, nil
	}
	lease.waiters = append(lease.waiters, made)
	l.fetchForWaiters(digest, lease, now)
	return made, nil
}

// await waits, and adds the outcome to the result of a valid key.
func (l *LocalLimiter) await(ctx context.Context, digest near.Digest, waiting *waiter, result *ConsumeResult) (isAgain bool, err error) {
	ctx, cancel := l.client.withTimeout(ctx)
	defer cancel()
	select {
	case <-waiting.done:
	case <-ctx.Done():
		l.mu.Lock()
		if lease := l.leases[digest]; lease != nil && lease.giveUp(waiting) {
			waiting.end(waitOutcome{err: contextError(ctx.Err())})
		}
		l.mu.Unlock()
		<-waiting.done
	}
	switch outcome := waiting.outcome; {
	case outcome.err != nil:
		*result = ConsumeResult{}
		return false, outcome.err
	case outcome.denied == nil:
		return outcome.isAgain, nil
	case outcome.denied.Validation.IsValid():
		result.Verdict, result.Limits = outcome.denied.Verdict, outcome.denied.Limits
	default:
		*result = ConsumeResult{Verdict: outcome.denied.Verdict, Validation: outcome.denied.Validation}
	}
	return false, nil
}

// take takes an amount that is available. The lock must be held, as for all functions below.
func (l *LocalLimiter) take(lease *localLease, now time.Time, amount int64) {
	for _, spent := range lease.take(now, amount) {
		l.settleLater(spent)
	}
}

// fetchAhead reserves the next chunk if little is left.
func (l *LocalLimiter) fetchAhead(ctx context.Context, digest near.Digest, lease *localLease, key Key, now time.Time) {
	if !lease.isFetching && lease.refused == nil && lease.isLow(now, lease.available(now)) {
		l.fetch(ctx, digest, lease, key, lease.chunkSize(now))
	}
}

// fetchForWaiters reserves what the first waiter needs, and more if the chunk is larger.
func (l *LocalLimiter) fetchForWaiters(digest near.Digest, lease *localLease, now time.Time) {
	if len(lease.waiters) == 0 || lease.isFetching {
		return
	}
	first := lease.waiters[0]
	l.fetch(first.ctx, digest, lease, first.key, max(first.amount-lease.available(now), lease.chunkSize(now)))
}

// fetch starts to reserve a chunk.
func (l *LocalLimiter) fetch(ctx context.Context, digest near.Digest, lease *localLease, key Key, amount int64) {
	lease.isFetching = true
	l.sweep()
	l.background.Go(func() {
		c := l.client
		// Other requests use it too. The values of the context are kept, for the client address and for tracing.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.options.timeout)
		defer cancel()
		defer context.AfterFunc(l.ctx, cancel)()
		id := newReservationID()
		// The service counts the time from the arrival of the request, which is later.
		sentAt := c.options.clock.Now()
		reservation, err := c.Reserve(ctx, ReserveRequest{
			Credential: KeyQuery{Key: key}, Costs: []Cost{{Metric: l.metric, Amount: amount}},
			ReservationID: id, ExpiresIn: chunkExpiresIn, OnExpiry: ChargeOnExpiry,
		})
		l.mu.Lock()
		lease.isFetching = false
		switch {
		case err != nil:
			lease.endAll(waitOutcome{err: err})
		case reservation.Allowed():
			l.receive(digest, lease, reservation, amount, sentAt)
		default:
			l.refuse(digest, lease, reservation, amount)
		}
		l.mu.Unlock()
		if known, ok := errors.AsType[*Error](err); ok && known.Transient() {
			// It may have been reserved. If this fails too, it counts as used.
			_, _ = c.cancel(l.ctx, id)
		}
	})
}

// receive adds a chunk that was reserved, and serves the waiters.
func (l *LocalLimiter) receive(digest near.Digest, lease *localLease, reservation *Reservation, amount int64, sentAt time.Time) {
	now := l.client.options.clock.Now()
	expiresAt := sentAt.Add(reservation.ExpiresIn)
	made := &chunk{id: reservation.ID, amount: amount, left: amount, usableUntil: expiresAt.Add(-chunkMargin), expiresAt: expiresAt}
	switch {
	case l.closed || l.leases[digest] != lease:
		// Nobody waits for it: the limiter was closed, or the key was denied in the meantime.
		l.settleLater(made)
	case !now.Before(made.usableUntil):
		l.settleLater(made)
		lease.endAll(waitOutcome{err: localError(codes.Unavailable, "the reservation arrived too late to be used")})
	default:
		lease.add(made)
		made.stopTimer = l.client.options.clock.AfterFunc(made.usableUntil.Sub(now), func() { l.retire(lease, made) })
		l.serve(digest, lease, now)
	}
}

// refuse ends the waiters that a refused reservation denies: those that need no less than it.
func (l *LocalLimiter) refuse(digest near.Digest, lease *localLease, refused *Reservation, amount int64) {
	denied := waitOutcome{denied: refused}
	if !refused.Validation.IsValid() {
		lease.endAll(denied)
		if l.leases[digest] == lease {
			l.dropLocked(digest)
		}
		return
	}
	now := l.client.options.clock.Now()
	lease.refuse(refused, amount, now)
	available := lease.available(now)
	lease.waiters = slices.DeleteFunc(lease.waiters, func(waiting *waiter) bool {
		isDenied := waiting.amount-available >= amount
		if isDenied {
			waiting.end(denied)
		}
		return isDenied
	})
	l.serve(digest, lease, now)
}

// serve admits waiters in order, and reserves for the rest.
func (l *LocalLimiter) serve(digest near.Digest, lease *localLease, now time.Time) {
	for len(lease.waiters) > 0 && lease.waiters[0].amount <= lease.available(now) {
		first := lease.waiters[0]
		lease.waiters = lease.waiters[1:]
		l.take(lease, now, first.amount)
		first.end(waitOutcome{})
		if len(lease.waiters) == 0 {
			l.fetchAhead(first.ctx, digest, lease, first.key, now)
		}
	}
	l.fetchForWaiters(digest, lease, now)
}

// retire gives back what is left of a chunk that is about to expire.
func (l *LocalLimiter) retire(lease *localLease, old *chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease.remove(old) {
		l.settleLater(old)
	}
}
