package near

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Question is what is asked, without the words.
type Question struct {
	// Digest tells questions apart.
	Digest Digest
}

// Result is an answer, and how it was come by.
type Result[V any] struct {
	Value V
	// Near tells whether it was remembered.
	Near bool
	// Age is how long ago it was asked for.
	Age time.Duration
}

// flight is one question under way, for all who ask it meanwhile.
type flight[V any] struct {
	digest Digest
	asked  time.Time
	life   int
	// until is when it is given up, by the machine's clock.
	until time.Time
	// fence is the highest revision that was heard of meanwhile.
	fence int64
	// changed are the things that this client itself has changed meanwhile.
	changed []Subject
	// void flights are answered but not remembered.
	void bool
	// last is why it is still under way: the failure before the attempt that is being made.
	last error

	done  chan struct{}
	value V
	err   error
}

// Ask answers from memory, or joins who is asking the same, or asks. A caller that gives up leaves the others alone.
func (c *Cache[V]) Ask(ctx context.Context, question Question, ask func(context.Context) (Answer[V], error)) (Result[V], error) {
	for {
		joined, known := c.join(ctx, question, ask)
		if joined == nil {
			return known, nil
		}
		select {
		case <-joined.done:
		case <-ctx.Done():
			return Result[V]{}, c.gaveUp(ctx, joined)
		}
		if joined.err == nil {
			return Result[V]{Value: joined.value}, nil
		}
		if !outlives(ctx, joined) {
			return Result[V]{}, joined.err
		}
	}
}

// gaveUp is why a caller has no answer in time: what it is known to wait for says more than that time is over.
func (c *Cache[V]) gaveUp(ctx context.Context, joined *flight[V]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if joined.last != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return joined.last
	}
	return ctx.Err()
}

type noteKey struct{}

// Note tells those who wait for the question of this context that an attempt has failed and another one will be made.
func Note(ctx context.Context, err error) {
	if note, ok := ctx.Value(noteKey{}).(func(error)); ok {
		note(err)
	}
}

// outlives tells whether a flight ran out of time that this caller still has.
func outlives[V any](ctx context.Context, joined *flight[V]) bool {
	deadline, ok := ctx.Deadline()
	return ok && deadline.After(joined.until) && errors.Is(joined.err, context.DeadlineExceeded) && ctx.Err() == nil
}

// Known is what is remembered.
func (c *Cache[V]) Known(digest Digest) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if found := c.find(digest, now); found != nil {
		return Result[V]{Value: found.answer.Value, Near: true, Age: now.Sub(found.asked)}, true
	}
	return Result[V]{}, false
}

// join finds an answer, or a flight, or starts one: under one lock, so that nobody asks just after the answer came.
func (c *Cache[V]) join(ctx context.Context, question Question, ask func(context.Context) (Answer[V], error)) (*flight[V], Result[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if found := c.find(question.Digest, now); found != nil {
		return nil, Result[V]{Value: found.answer.Value, Near: true, Age: now.Sub(found.asked)}
	}
	if joined, ok := c.flights[question.Digest]; ok {
		return joined, Result[V]{}
	}
	patience := c.config.Patience
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(patience, time.Until(deadline))
	}
	// Not the caller's own end, which would be everybody's. Its values stay, for tracing.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	until, _ := detached.Deadline()
	started := &flight[V]{
		digest: question.Digest,
		asked:  now,
		life:   c.pulse.current(now),
		until:  until,
		done:   make(chan struct{}),
	}
	detached = context.WithValue(detached, noteKey{}, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		started.last = err
	})
	c.flights[question.Digest] = started
	c.running[started] = struct{}{}
	go func() {
		defer cancel()
		answer, err := ask(detached)
		c.land(started, answer, err)
	}()
	return started, Result[V]{}
}

func (c *Cache[V]) land(landed *flight[V], answer Answer[V], err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, landed)
	if c.flights[landed.digest] == landed {
		delete(c.flights, landed.digest)
	}
	landed.value, landed.err = answer.Value, err
	close(landed.done)
	if err != nil || max(answer.CacheableFor, answer.WhileWatched) <= 0 || landed.void || c.superseded(landed, &answer) {
		return
	}
	c.remember(&entry[V]{digest: landed.digest, answer: answer, asked: landed.asked, life: landed.life})
}

// superseded tells whether more has been heard of than the answer reflects.
func (c *Cache[V]) superseded(landed *flight[V], answer *Answer[V]) bool {
	if c.floors.outdated(answer.About, answer.Revision) {
		return true
	}
	if len(landed.changed) > 0 && (len(answer.About) == 0 || slices.ContainsFunc(landed.changed, func(changed Subject) bool {
		return slices.Contains(answer.About, changed)
	})) {
		return true
	}
	forgotten := answer.Revision < c.floors.forgotten
	if len(answer.About) == 0 || forgotten {
		// It cannot be told whether what was heard of meanwhile concerns this answer: assume so.
		if answer.Revision < landed.fence {
			return true
		}
	}
	if forgotten {
		// The service's word for how long it may be reused stands; more than that is not known to be safe.
		answer.WhileWatched = 0
	}
	return false
}
