package replicas

import (
	"context"
	"sync"
)

// Attempt is one attempt of a call. It records the replica that it was sent to.
type Attempt struct {
	// earlier are the earlier attempts of the same call.
	earlier []*Attempt
	// mustDiffer attempts fail if no other replica than those of the earlier attempts is available.
	mustDiffer bool

	mu   sync.Mutex
	sent *Replica
	// onSent is called when the attempt is sent for the first time.
	onSent func()
}

// OnSent sets a function that is called when the attempt has found a connection and is sent. It must not block, and
// must be set before the call starts.
func (a *Attempt) OnSent(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onSent = f
}

type attemptKey struct{}

// NewAttempt creates an attempt that avoids the replicas of earlier attempts of the same call, if possible.
func NewAttempt(ctx context.Context, earlier ...*Attempt) (context.Context, *Attempt) {
	attempt := &Attempt{earlier: earlier}
	return context.WithValue(ctx, attemptKey{}, attempt), attempt
}

// NewAttemptElsewhere creates an attempt that fails if it cannot avoid the replicas of earlier attempts.
func NewAttemptElsewhere(ctx context.Context, earlier ...*Attempt) (context.Context, *Attempt) {
	attempt := &Attempt{earlier: earlier, mustDiffer: true}
	return context.WithValue(ctx, attemptKey{}, attempt), attempt
}

// Replica returns the replica that the attempt was sent to; nil if it was not sent yet.
func (a *Attempt) Replica() *Replica {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent
}

func (a *Attempt) send(replica *Replica) {
	a.mu.Lock()
	a.sent = replica
	f := a.onSent
	a.onSent = nil
	a.mu.Unlock()
	if f != nil {
		f()
	}
}

// usedReplica reports whether this attempt, or an earlier one, was sent to the replica.
func (a *Attempt) usedReplica(replica *Replica) bool {
	if a.Replica() == replica {
		return true
	}
	return a.triedEarlier(replica)
}

func (a *Attempt) triedEarlier(replica *Replica) bool {
	for _, earlier := range a.earlier {
		if earlier.Replica() == replica {
			return true
		}
	}
	return false
}
