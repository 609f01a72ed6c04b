// Package clock is what the client knows of time, so that tests need not wait.
package clock

import (
	"context"
	"time"
)

// Clock tells the time and wakes those who wait.
type Clock interface {
	// Now is the present moment, with a monotonic reading where there is one.
	Now() time.Time
	// AfterFunc calls f once, after d, unless stopped before. Stopping tells whether it came in time.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// System is the machine's own clock.
type System struct{}

// Now is time.Now.
func (System) Now() time.Time { return time.Now() }

// AfterFunc is time.AfterFunc.
func (System) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// Sleep waits for d, or until the context ends, whose error it then returns.
func Sleep(ctx context.Context, clock Clock, d time.Duration) error {
	woken := make(chan struct{})
	stop := clock.AfterFunc(d, func() { close(woken) })
	defer stop()
	select {
	case <-woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
