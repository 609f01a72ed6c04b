// Package replicas knows each address of the service: how to find it, which one a call went to, and whether it still
// gives a sign of life.
package replicas

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

const (
	// silence is how long a replica may say nothing at all after it was asked for a sign of life.
	silence = 500 * time.Millisecond
	// restBetween is the least time between two such questions.
	restBetween = 250 * time.Millisecond
)

// Replica is one address of the service.
type Replica struct {
	// suspect replicas were asked for a sign of life and have not given one yet: they get no calls if others can.
	suspect atomic.Bool
	// doubted replicas are suspect, or will be asked soon.
	doubted atomic.Bool

	mu sync.Mutex
	// askedAt is when it was asked for a sign of life last.
	askedAt time.Time
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

// rest is how long it should not be asked for a sign of life.
func (r *Replica) rest(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.askedAt.Add(restBetween).Sub(now)
}

// asking is the connection to ask on.
func (r *Replica) asking(now time.Time) *connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.askedAt = now
	return r.conn
}

// release ends the suspicion of a replica that had a new connection before the old one was closed.
func (r *Replica) release(closed *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != closed {
		r.suspect.Store(false)
	}
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

// Doubt asks the replica of an attempt that is not answered for a sign of life, and closes its connection if there is none:
// everything that waits on it fails then, as on a lost connection, and it gets no calls until it has a new one.
func (p *Pool) Doubt(attempt *Attempt) {
	replica := attempt.Replica()
	if replica == nil || !replica.doubted.CompareAndSwap(false, true) {
		return
	}
	// Where everything is slow, each call is a reason to ask.
	if wait := replica.rest(p.clock.Now()); wait > 0 {
		p.clock.AfterFunc(wait, func() { p.ask(replica) })
		return
	}
	p.ask(replica)
}

func (p *Pool) ask(replica *Replica) {
	conn := replica.asking(p.clock.Now())
	if conn == nil {
		replica.doubted.Store(false)
		return
	}
	word, silent := conn.nextWord(), make(chan struct{})
	stop := p.clock.AfterFunc(silence, func() { close(silent) })
	replica.suspect.Store(true)
	go conn.ping()
	go func() {
		defer replica.doubted.Store(false)
		defer stop()
		select {
		case <-word:
			replica.suspect.Store(false)
		case <-silent:
			_ = conn.Close()
			replica.release(conn)
		}
	}()
}
