package tenantauth

import (
	"sync"
	"sync/atomic"
)

// gate counts the calls in flight and can be closed to new calls.
type gate struct {
	// state is the number of calls in flight, plus closedBit if the gate is closed.
	state   atomic.Int64
	drained chan struct{}
	once    sync.Once
}

const closedBit = 1 << 62

func newGate() *gate { return &gate{drained: make(chan struct{})} }

func (g *gate) isClosed() bool { return g.state.Load()&closedBit != 0 }

// enter starts a call. If it returns no error, the call must end with leave.
func (g *gate) enter() error {
	if g.state.Add(1)&closedBit != 0 {
		g.leave()
		return closedError()
	}
	return nil
}

func (g *gate) leave() {
	if g.state.Add(-1) == closedBit {
		g.once.Do(func() { close(g.drained) })
	}
}

// close rejects new calls.
func (g *gate) close() {
	if g.state.Or(closedBit) == 0 {
		g.once.Do(func() { close(g.drained) })
	}
}

// wait returns when the last call has left a closed gate.
func (g *gate) wait() { <-g.drained }
