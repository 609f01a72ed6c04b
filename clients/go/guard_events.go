package tenantauth

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// maxClockStep is the change of the service's time that is ignored: heartbeats are late by different times.
const maxClockStep = time.Second

// schedule sets the timer of a credential to what it waits for first. The lock must be held.
func (r *guardRegistry) schedule(shared *guardedCredential) {
	shared.stopTimer()
	if len(shared.guards) == 0 {
		return
	}
	var next time.Time
	earliest := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if shared.checking == noCheck {
		earliest(shared.nextCheck)
		if !shared.expiresAt.IsZero() {
			earliest(shared.expiresAt.Add(-r.serverAhead))
		}
	}
	for waiting := range shared.guards {
		earliest(waiting.undecidedUntil(shared.undecidedSince))
	}
	if next.IsZero() {
		return
	}
	clock := r.client.options.clock
	shared.stopTimer = clock.AfterFunc(max(0, next.Sub(clock.Now())), func() { r.onTimer(shared) })
}

// undecidedUntil returns the end of the tolerance of a guard; zero if everything is decided.
func (g *guard) undecidedUntil(since time.Time) time.Time {
	if since.IsZero() {
		return time.Time{}
	}
	if since.Before(g.since) {
		since = g.since
	}
	return since.Add(g.tolerance)
}

func (r *guardRegistry) onTimer(shared *guardedCredential) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.client.options.clock.Now()
	for waiting := range shared.guards {
		if until := waiting.undecidedUntil(shared.undecidedSince); !until.IsZero() && !until.After(now) {
			err := shared.lastErr
			if err == nil {
				err = contextError(context.DeadlineExceeded)
			}
			waiting.end(&Ended{err: err})
			r.drop(waiting)
		}
	}
	switch {
	case len(shared.guards) == 0:
	case shared.checking != noCheck:
		r.schedule(shared)
	case !shared.expiresAt.IsZero() && !shared.expiresAt.After(r.serverNow()):
		r.start(shared, expiryCheck)
	case !shared.nextCheck.IsZero() && !shared.nextCheck.After(now):
		r.start(shared, periodicCheck)
	default:
		r.schedule(shared)
	}
}

// onEvent must be called after an event of the watch stream has been applied to the near cache, and when the stream is
// broken.
func (r *guardRegistry) onEvent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.followStream()
}

// onReported validates all guards of a subject that the watch stream has reported.
func (r *guardRegistry) onReported(subject near.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for shared := range r.bySubject[subject] {
		r.start(shared, reportedCheck)
	}
}

// onStartOver validates all guards, because it is unknown what has changed.
func (r *guardRegistry) onStartOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, shared := range r.all {
		r.start(shared, reportedCheck)
	}
}

// onOwnChange validates all guards of subjects that this client has tried to change.
func (r *guardRegistry) onOwnChange(subjects ...near.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, subject := range subjects {
		for shared := range r.bySubject[subject] {
			r.start(shared, periodicCheck)
		}
	}
}

// onServerTime sets the clock by which keys and sessions expire.
func (r *guardRegistry) onServerTime(sentAt *timestamppb.Timestamp) {
	if sentAt.CheckValid() != nil {
		return
	}
	ahead := sentAt.AsTime().Sub(r.client.options.clock.Now())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.knowsServerTime && (ahead-r.serverAhead).Abs() <= maxClockStep {
		return
	}
	r.knowsServerTime, r.serverAhead = true, ahead
	for _, shared := range r.all {
		r.schedule(shared)
	}
}

// close ends all guards: they can no longer be validated.
func (r *guardRegistry) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, shared := range r.all {
		r.endAll(shared, &Ended{err: closedError()})
	}
}
