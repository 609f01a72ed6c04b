package replicas

import (
	"context"
	"sync"
)

// Attempt is one way that a call takes, and remembers the replica that it was sent to.
type Attempt struct {
	// avoid are earlier attempts of the same call.
	avoid []*Attempt
	// elsewhere attempts fail rather than go where an earlier one went.
	elsewhere bool

	mu   sync.Mutex
	sent *Replica
	// onSent is called when it is sent for the first time.
	onSent func()
}

// OnSent calls f, which must not wait, when the attempt has found a connection and is sent. It is to be set before.
func (a *Attempt) OnSent(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onSent = f
}

type attemptKey struct{}

// Begin is an attempt that keeps away from where earlier ones of the same call went, if it can.
func Begin(ctx context.Context, earlier ...*Attempt) (context.Context, *Attempt) {
	attempt := &Attempt{avoid: earlier}
	return context.WithValue(ctx, attemptKey{}, attempt), attempt
}

// BeginElsewhere is an attempt that fails if it cannot keep away from where earlier ones went.
func BeginElsewhere(ctx context.Context, earlier ...*Attempt) (context.Context, *Attempt) {
	attempt := &Attempt{avoid: earlier, elsewhere: true}
	return context.WithValue(ctx, attemptKey{}, attempt), attempt
}

// Replica is where it was sent; nil if it was not yet.
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

// went tells whether this attempt, or one before it, was sent to a replica.
func (a *Attempt) went(replica *Replica) bool {
	if a.Replica() == replica {
		return true
	}
	return a.avoids(replica)
}

func (a *Attempt) avoids(replica *Replica) bool {
	for _, earlier := range a.avoid {
		if earlier.Replica() == replica {
			return true
		}
	}
	return false
}
