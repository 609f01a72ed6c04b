package replicas

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Policy is the name of the balancer in a service config.
const Policy = "tenantauth_replicas"

func init() { balancer.Register(builder{}) }

// builder creates balancers that use all ready replicas in turn, like gRPC's round_robin. They also record which
// replica a call was sent to, so that the next attempt can use another one. gRPC's base balancer keeps one connection
// per address.
type builder struct{}

// Name returns Policy.
func (builder) Name() string { return Policy }

// Build creates the balancer of one client.
func (builder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	pickers := &pickers{}
	made := base.NewBalancerBuilder(Policy, pickers, base.Config{}).Build(conn, options)
	return &poolBalancer{Balancer: made, pickers: pickers}
}

// poolBalancer gets the pool of replicas from the resolver.
type poolBalancer struct {
	balancer.Balancer
	pickers *pickers
}

type poolKey struct{}

// UpdateClientConnState passes the resolver state on, after reading the pool from it.
func (w *poolBalancer) UpdateClientConnState(state balancer.ClientConnState) error {
	if pool, ok := state.ResolverState.Attributes.Value(poolKey{}).(*Pool); ok {
		w.pickers.set(pool)
	}
	return w.Balancer.UpdateClientConnState(state)
}

// ExitIdle passes the call on. The base balancer always connects.
func (w *poolBalancer) ExitIdle() { w.Balancer.ExitIdle() }

// ResolverError passes the error on.
func (w *poolBalancer) ResolverError(err error) { w.Balancer.ResolverError(err) }

type pickers struct {
	mu   sync.Mutex
	pool *Pool
}

func (p *pickers) set(pool *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool = pool
}

// Build creates a picker for the ready replicas.
func (p *pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	p.mu.Lock()
	defer p.mu.Unlock()
	choices := make([]choice, 0, len(info.ReadySCs))
	ready := make([]*Replica, 0, len(info.ReadySCs))
	for conn, about := range info.ReadySCs {
		if replica := replicaOf(about.Address.Attributes); replica != nil {
			choices = append(choices, choice{conn, replica})
			ready = append(ready, replica)
		}
	}
	if p.pool == nil {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p.pool.ready.Store(&ready)
	if len(choices) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	return &picker{pool: p.pool, choices: choices}
}

type choice struct {
	conn    balancer.SubConn
	replica *Replica
}

type picker struct {
	pool    *Pool
	choices []choice
}

// Pick returns the next replica, preferring replicas that the call has not tried and that have no unanswered ping.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	attempt, _ := info.Ctx.Value(attemptKey{}).(*Attempt)
	start := p.pool.next.Add(1)
	best, rank := choice{}, 0
	for offset := range uint64(len(p.choices)) {
		candidate := p.choices[(start+offset)%uint64(len(p.choices))]
		if preferred := preference(candidate.replica, attempt); preferred > rank {
			best, rank = candidate, preferred
		}
	}
	if rank == 0 {
		return balancer.PickResult{}, status.Error(codes.Unavailable, "no other replica is connected")
	}
	if attempt != nil {
		attempt.send(best.replica)
	}
	return balancer.PickResult{SubConn: best.conn}, nil
}

// preference is how well a replica suits an attempt; 0 means that it must not be used.
func preference(replica *Replica, attempt *Attempt) int {
	unanswered, tried := replica.pingUnanswered.Load(), attempt != nil && attempt.triedEarlier(replica)
	switch {
	case !unanswered && !tried:
		return 4
	case tried && attempt.mustDiffer:
		return 0
	case !unanswered:
		return 3
	case !tried:
		return 2
	default:
		return 1
	}
}
