// Package replicas knows each address of the service: how to find it, which one a call went to, and whether it still
// gives a sign of life.
package replicas

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

// silence is how long a replica may say nothing at all after it was asked for a sign of life.
const silence = 500 * time.Millisecond

// Replica is one address of the service.
type Replica struct {
	// suspect replicas were asked for a sign of life and have not given one yet: they get no calls if others can.
	suspect atomic.Bool

	mu sync.Mutex
	// conn is the newest connection; nil before the first.
	conn *connection
}

func (r *Replica) connected(made *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = made
	// It gets calls again once gRPC calls the new connection ready, which takes the server's SETTINGS.
	r.suspect.Store(false)
}

func (r *Replica) connection() *connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn
}

// Pool is all replicas of one client.
type Pool struct {
	clock clock.Clock
	// ready are those that calls can be sent to.
	ready atomic.Pointer[[]*Replica]
	next  atomic.Uint64

	mu    sync.Mutex
	known map[place]*Replica
}

// place is an address, by the endpoint under which it was found.
type place struct {
	authority, address string
}

// NewPool is empty.
func NewPool(clock clock.Clock) *Pool {
	return &Pool{clock: clock, known: map[place]*Replica{}}
}

// retain gives each place its replica, the one that it had if there was one, and lets go of all others.
func (p *Pool) retain(places []place) []*Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := make(map[place]*Replica, len(places))
	found := make([]*Replica, 0, len(places))
	for _, at := range places {
		replica := p.known[at]
		if replica == nil {
			replica = &Replica{}
		}
		known[at] = replica
		found = append(found, replica)
	}
	p.known = known
	return found
}

// HasOther tells whether a call can be sent to another replica than those.
func (p *Pool) HasOther(tried *Attempt) bool {
	ready := p.ready.Load()
	if ready == nil {
		return false
	}
	for _, replica := range *ready {
		if !replica.suspect.Load() && !tried.went(replica) {
			return true
		}
	}
	return false
}

// Doubt asks the replica of an attempt that is not answered for a sign of life, and ends the connection if there is none.
// The question is asked by ping, a call that this package sends to the very connection; its outcome does not matter.
func (p *Pool) Doubt(attempt *Attempt, ping func(context.Context)) {
	replica := attempt.Replica()
	if replica == nil || !replica.suspect.CompareAndSwap(false, true) {
		return
	}
	conn := replica.connection()
	if conn == nil {
		replica.suspect.Store(false)
		return
	}
	heard := conn.heard.Load()
	ctx, cancel := context.WithCancel(pinned(replica))
	stop := p.clock.AfterFunc(silence, cancel)
	go func() {
		defer cancel()
		ping(ctx)
		stop()
		if conn.heard.Load() != heard {
			replica.suspect.Store(false)
			return
		}
		// Everything that waits on this connection fails at once, as a lost connection does. The replica stays suspect until
		// it has a new one.
		_ = conn.Close()
		replica.release(conn)
	}()
}

// release ends the suspicion of a replica that had a new connection before the old one was closed.
func (r *Replica) release(closed *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != closed {
		r.suspect.Store(false)
	}
}
