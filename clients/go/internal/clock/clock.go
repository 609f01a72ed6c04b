// Package clock abstracts time, so that tests need not wait.
package clock

import (
	"context"
	"time"
)

// Clock returns the time and runs timers.
type Clock interface {
	// Now returns the current time, with a monotonic reading if available.
	Now() time.Time
	// AfterFunc calls f once, after d, unless it is stopped before. stop reports whether it prevented the call.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// System is the system clock.
type System struct{}

// Now calls time.Now.
func (System) Now() time.Time { return time.Now() }

// AfterFunc calls time.AfterFunc.
func (System) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// Sleep waits for d. If the context ends first, it returns the error of the context.
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
