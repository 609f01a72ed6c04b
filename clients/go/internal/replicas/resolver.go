package replicas

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

const (
	// Scheme is that of the one target that a Builder resolves.
	Scheme = "tenantauth"
	// lookupTimeout is when a lookup has failed.
	lookupTimeout = 5 * time.Second
	// refresh is when a name that was found is looked up again.
	refresh = 30 * time.Second
	// again is the least between two lookups of a name; it grows while they bring nothing new.
	again = time.Second
	// patience is what it grows to.
	patience = 5 * time.Second
)

// Lookup finds the addresses of a name.
type Lookup func(ctx context.Context, host string) ([]string, error)

// Builder resolves the endpoints of one client, all taken together.
//
// gRPC's own DNS resolver takes "no such name" for an empty success, and looks again only after 30 s or, when there are
// failures, up to two minutes. A replica whose name appears late would not be called for that long.
type Builder struct {
	Endpoints []endpoints.Endpoint
	Pool      *Pool
	Clock     clock.Clock
	Lookup    Lookup
	// Literal tells which endpoints need no lookup here.
	Literal func(endpoints.Endpoint) bool
}

// Target is what grpc.NewClient takes.
const Target = Scheme + ":///"

// Scheme is the scheme of Target.
func (*Builder) Scheme() string { return Scheme }

// Build looks all names up, and goes on doing so.
func (b *Builder) Build(_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	made := &merged{Builder: b, conn: conn, cancel: cancel}
	for _, endpoint := range b.Endpoints {
		host := &host{endpoint: endpoint, kick: make(chan struct{}, 1)}
		if b.Literal(endpoint) {
			host.addresses = []string{endpoint.Host}
		} else {
			made.names = append(made.names, host)
		}
		made.hosts = append(made.hosts, host)
	}
	if len(made.names) < len(made.hosts) {
		made.report()
	}
	for _, name := range made.names {
		made.running.Go(func() { made.follow(ctx, name) })
	}
	return made, nil
}

// host is one endpoint, and what is known of it.
type host struct {
	endpoint endpoints.Endpoint
	kick     chan struct{}

	addresses []string
	failed    error
}

type merged struct {
	*Builder
	conn    resolver.ClientConn
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// names are those of hosts that have to be looked up.
	hosts, names []*host
}

// ResolveNow looks up again, as gRPC asks for when connections fail.
func (m *merged) ResolveNow(resolver.ResolveNowOptions) {
	for _, name := range m.names {
		select {
		case name.kick <- struct{}{}:
		default:
		}
	}
}

// Close ends the lookups.
func (m *merged) Close() {
	m.cancel()
	m.running.Wait()
}

// follow looks a name up until the context ends.
func (m *merged) follow(ctx context.Context, name *host) {
	for fruitless := 1; ; fruitless++ {
		addresses, err := m.lookup(ctx, name.endpoint.Host)
		if ctx.Err() != nil {
			return
		}
		if m.found(name, addresses, err) {
			fruitless = 1
		}
		// After each lookup there is a rest, whoever asks for the next one: an address that nobody listens at asks each second.
		rest := min(patience, again*time.Duration(fruitless))
		if clock.Sleep(ctx, m.Clock, rest) != nil {
			return
		}
		if err == nil && m.sleep(ctx, name, refresh-rest) != nil {
			return
		}
	}
}

// sleep waits, or until somebody wants the name looked up.
func (m *merged) sleep(ctx context.Context, name *host, d time.Duration) error {
	kicked, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := m.Clock.AfterFunc(d, cancel)
	defer stop()
	select {
	case <-name.kick:
	case <-kicked.Done():
	}
	return ctx.Err()
}

func (m *merged) lookup(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := m.Lookup(ctx, name)
	if err == nil && len(addresses) == 0 {
		err = errors.New("no addresses")
	}
	return addresses, err
}

// found takes what a lookup gave, and tells whether it is anything new. One that failed takes nothing away: addresses that
// served may serve on.
func (m *merged) found(name *host, addresses []string, err error) (isNew bool) {
	m.mu.Lock()
	name.failed = err
	if err == nil {
		slices.Sort(addresses)
		addresses = slices.Compact(addresses)
		isNew = !slices.Equal(addresses, name.addresses)
		name.addresses = addresses
	}
	m.mu.Unlock()
	if isNew || err != nil {
		m.report()
	}
	return isNew
}

// report tells gRPC what all hosts together resolve to.
func (m *merged) report() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var places []place
	var failed []error
	for _, host := range m.hosts {
		for _, address := range host.addresses {
			places = append(places, place{host.endpoint.Authority(), net.JoinHostPort(address, host.endpoint.Port)})
		}
		if host.failed != nil {
			failed = append(failed, fmt.Errorf("%s: %w", host.endpoint.Host, host.failed))
		}
	}
	if len(places) == 0 {
		if len(failed) > 0 {
			m.conn.ReportError(errors.Join(failed...))
		}
		return
	}
	addresses := make([]resolver.Address, 0, len(places))
	for index, replica := range m.Pool.retain(places) {
		addresses = append(addresses, resolver.Address{
			Addr: places[index].address,
			// For gRPC this is both the name in the certificate and the :authority of calls.
			ServerName: places[index].authority,
			Attributes: replica.attributes(),
		})
	}
	state := resolver.State{Addresses: addresses, Attributes: attributes.New(poolKey{}, m.Pool)}
	// An error would say that gRPC has no use for these addresses, which it says again when it is called.
	_ = m.conn.UpdateState(state)
}
