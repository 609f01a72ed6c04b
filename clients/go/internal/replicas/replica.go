// Package replicas manages the addresses of the service: it resolves them, records which one a call was sent to, and
// checks their liveness.
package replicas

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

const (
	// pingTimeout is how long a replica may take to send any data after a PING.
	pingTimeout = 500 * time.Millisecond
	// minPingInterval is the minimum time between two pings of a replica.
	minPingInterval = 250 * time.Millisecond
)

// Replica is one address of the service.
type Replica struct {
	// pingUnanswered replicas have not responded to a PING yet. They get calls only if no other replica can.
	pingUnanswered atomic.Bool
	// checking replicas have an unanswered PING, or will be sent one soon.
	checking atomic.Bool

	mu sync.Mutex
	// pingedAt is the time of the last PING.
	pingedAt time.Time
	// conn is the newest connection; nil before the first.
	conn *connection
}

func (r *Replica) setConnection(made *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn = made
	// The replica gets calls again when gRPC reports the new connection as ready, which requires the server's SETTINGS
	// frame.
	r.pingUnanswered.Store(false)
}

// pingDelay returns how long to wait before the next PING.
func (r *Replica) pingDelay(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pingedAt.Add(minPingInterval).Sub(now)
}

// beginPing records the time of a PING and returns the connection to send it on.
func (r *Replica) beginPing(now time.Time) *connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pingedAt = now
	return r.conn
}

// connectionClosed clears pingUnanswered if the replica got a new connection before the old one was closed.
func (r *Replica) connectionClosed(closed *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != closed {
		r.pingUnanswered.Store(false)
	}
}

// Pool holds all replicas of one client.
type Pool struct {
	clock clock.Clock
	// ready are the replicas that calls can be sent to.
	ready atomic.Pointer[[]*Replica]
	next  atomic.Uint64

	mu        sync.Mutex
	byAddress map[replicaAddress]*Replica
}

// replicaAddress is an address, with the endpoint that it was resolved from.
type replicaAddress struct {
	authority, address string
}

// NewPool creates an empty pool.
func NewPool(clock clock.Clock) *Pool {
	return &Pool{clock: clock, byAddress: map[replicaAddress]*Replica{}}
}

// retain returns the replica of each address, the existing one if there is one, and removes all other replicas.
func (p *Pool) retain(addresses []replicaAddress) []*Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	byAddress := make(map[replicaAddress]*Replica, len(addresses))
	found := make([]*Replica, 0, len(addresses))
	for _, address := range addresses {
		replica := p.byAddress[address]
		if replica == nil {
			replica = &Replica{}
		}
		byAddress[address] = replica
		found = append(found, replica)
	}
	p.byAddress = byAddress
	return found
}

// HasOther reports whether a call can be sent to a replica that its attempts have not used.
func (p *Pool) HasOther(tried *Attempt) bool {
	ready := p.ready.Load()
	if ready == nil {
		return false
	}
	for _, replica := range *ready {
		if !replica.pingUnanswered.Load() && !tried.usedReplica(replica) {
			return true
		}
	}
	return false
}

// CheckLiveness sends a PING to the replica of an unanswered attempt, and closes its connection if the replica does not
// respond. All calls on the connection then fail as on a lost connection, and the replica gets no calls until it has a
// new one.
func (p *Pool) CheckLiveness(attempt *Attempt) {
	replica := attempt.Replica()
	if replica == nil || !replica.checking.CompareAndSwap(false, true) {
		return
	}
	// Pings are limited because each slow call requests a check.
	if wait := replica.pingDelay(p.clock.Now()); wait > 0 {
		p.clock.AfterFunc(wait, func() { p.pingReplica(replica) })
		return
	}
	p.pingReplica(replica)
}

func (p *Pool) pingReplica(replica *Replica) {
	conn := replica.beginPing(p.clock.Now())
	if conn == nil {
		replica.checking.Store(false)
		return
	}
	received, timedOut := conn.nextRead(), make(chan struct{})
	stop := p.clock.AfterFunc(pingTimeout, func() { close(timedOut) })
	replica.pingUnanswered.Store(true)
	go conn.ping()
	go func() {
		defer replica.checking.Store(false)
		defer stop()
		select {
		case <-received:
			replica.pingUnanswered.Store(false)
		case <-timedOut:
			_ = conn.Close()
			replica.connectionClosed(conn)
		}
	}()
}
