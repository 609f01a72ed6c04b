package tenantauth

import (
	"sync"
	"sync/atomic"
)

// gate counts the calls under way, and can be closed to new ones.
type gate struct {
	// state is the number of calls, and shut.
	state   atomic.Int64
	drained chan struct{}
	once    sync.Once
}

const shut = 1 << 62

func newGate() *gate { return &gate{drained: make(chan struct{})} }

func (g *gate) isShut() bool { return g.state.Load()&shut != 0 }

// enter begins a call, which is to leave, or is refused.
func (g *gate) enter() error {
	if g.state.Add(1)&shut != 0 {
		g.leave()
		return closed()
	}
	return nil
}

func (g *gate) leave() {
	if g.state.Add(-1) == shut {
		g.once.Do(func() { close(g.drained) })
	}
}

// close refuses new calls.
func (g *gate) close() {
	if g.state.Or(shut) == 0 {
		g.once.Do(func() { close(g.drained) })
	}
}

// wait returns when the last call has left a gate that was closed.
func (g *gate) wait() { <-g.drained }
