// Package fakeclock is a clock that tests advance by hand.
package fakeclock

import (
	"context"
	"sync"
	"time"
)

// Clock is a clock that stands still between calls of Advance.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	timers  map[*timer]struct{}
	changed chan struct{}
}

type timer struct {
	at time.Time
	f  func()
}

// New creates a clock with an arbitrary start time.
func New() *Clock {
	start := time.Date(2030, time.January, 2, 3, 4, 5, 0, time.UTC)
	return &Clock{now: start, timers: map[*timer]struct{}{}, changed: make(chan struct{})}
}

// Now returns the current time of the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc registers f for the Advance that passes its time.
func (c *Clock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := &timer{at: c.now.Add(d), f: f}
	c.timers[set] = struct{}{}
	c.notify()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, pending := c.timers[set]
		delete(c.timers, set)
		c.notify()
		return pending
	}
}

// Advance moves the clock and calls the due timers in order.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	for next := c.due(); next != nil; next = c.due() {
		delete(c.timers, next)
		c.notify()
		c.mu.Unlock()
		next.f()
		c.mu.Lock()
	}
	c.mu.Unlock()
}

// AwaitTimer waits until a timer is registered that is due within d.
func (c *Clock) AwaitTimer(ctx context.Context, d time.Duration) error {
	return c.AwaitTimers(ctx, 1, d)
}

// AwaitTimers waits until so many timers are registered that are due within d.
func (c *Clock) AwaitTimers(ctx context.Context, count int, d time.Duration) error {
	for {
		c.mu.Lock()
		found, changed := c.timersWithin(d), c.changed
		c.mu.Unlock()
		if found >= count {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Timers returns the number of timers that are registered.
func (c *Clock) Timers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

// HasTimerIn reports whether a timer is due in exactly d.
func (c *Clock) HasTimerIn(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for set := range c.timers {
		if set.at.Sub(c.now) == d {
			return true
		}
	}
	return false
}

// Farthest returns the time until the last timer is due.
func (c *Clock) Farthest() (farthest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for set := range c.timers {
		farthest = max(farthest, set.at.Sub(c.now))
	}
	return farthest
}

func (c *Clock) timersWithin(d time.Duration) (count int) {
	for set := range c.timers {
		if !set.at.After(c.now.Add(d)) {
			count++
		}
	}
	return count
}

func (c *Clock) due() *timer {
	var first *timer
	for set := range c.timers {
		if !set.at.After(c.now) && (first == nil || set.at.Before(first.at)) {
			first = set
		}
	}
	return first
}

func (c *Clock) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}
