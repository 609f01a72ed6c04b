package replicas

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Policy is the name of the balancer, for a service config.
const Policy = "tenantauth_replicas"

func init() { balancer.Register(builder{}) }

// builder makes balancers that go round all ready replicas, as gRPC's round_robin does, but know which replica a call
// went to, so that another attempt can go elsewhere. One connection for each address is gRPC's own work (base).
type builder struct{}

// Name is Policy.
func (builder) Name() string { return Policy }

// Build makes the balancer of one client.
func (builder) Build(conn balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	pickers := &pickers{}
	made := base.NewBalancerBuilder(Policy, pickers, base.Config{}).Build(conn, options)
	return &watched{Balancer: made, pickers: pickers}
}

// watched learns from the resolver whose replicas these are.
type watched struct {
	balancer.Balancer
	pickers *pickers
}

type poolKey struct{}

// UpdateClientConnState hands on the replicas.
func (w *watched) UpdateClientConnState(state balancer.ClientConnState) error {
	if pool, ok := state.ResolverState.Attributes.Value(poolKey{}).(*Pool); ok {
		w.pickers.set(pool)
	}
	return w.Balancer.UpdateClientConnState(state)
}

// ExitIdle is base's, which always connects.
func (w *watched) ExitIdle() { w.Balancer.ExitIdle() }

// ResolverError hands on.
func (w *watched) ResolverError(err error) { w.Balancer.ResolverError(err) }

type pickers struct {
	mu   sync.Mutex
	pool *Pool
}

func (p *pickers) set(pool *Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pool = pool
}

// Build makes a picker of those that are ready.
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

// Pick takes the next replica; one that the call has not tried and that is not suspect, if there is one.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	attempt, _ := info.Ctx.Value(attemptKey{}).(*Attempt)
	start := p.pool.next.Add(1)
	best, rank := choice{}, 0
	for offset := range uint64(len(p.choices)) {
		candidate := p.choices[(start+offset)%uint64(len(p.choices))]
		if worth := worth(candidate.replica, attempt); worth > rank {
			best, rank = candidate, worth
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

// worth is how well a replica suits an attempt; 0 is not at all.
func worth(replica *Replica, attempt *Attempt) int {
	suspect, tried := replica.suspect.Load(), attempt != nil && attempt.avoids(replica)
	switch {
	case !suspect && !tried:
		return 4
	case tried && attempt.elsewhere:
		return 0
	case !suspect:
		return 3
	case !tried:
		return 2
	default:
		return 1
	}
}
