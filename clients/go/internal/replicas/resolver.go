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
	// Scheme is the scheme of the target that a Builder resolves.
	Scheme = "tenantauth"
	// lookupTimeout is the timeout of one DNS lookup.
	lookupTimeout = 5 * time.Second
	// refreshInterval is the time between lookups of a name that was found.
	refreshInterval = 30 * time.Second
	// minLookupInterval is the minimum time between two lookups of a name. The interval grows while the result does not
	// change.
	minLookupInterval = time.Second
	// maxRetryInterval is the maximum of that interval.
	maxRetryInterval = 5 * time.Second
)

// Lookup returns the addresses of a host name.
type Lookup func(ctx context.Context, host string) ([]string, error)

// Builder resolves all endpoints of one client together.
//
// gRPC's own DNS resolver treats "no such name" as an empty success, and repeats a lookup only after 30 s, or after up
// to two minutes if lookups fail. A replica whose name appears later would get no calls for that long.
type Builder struct {
	Endpoints []endpoints.Endpoint
	Pool      *Pool
	Clock     clock.Clock
	Lookup    Lookup
	// IsLiteral reports whether an endpoint needs no lookup here.
	IsLiteral func(endpoints.Endpoint) bool
}

// Target is the target to pass to grpc.NewClient.
const Target = Scheme + ":///"

// Scheme returns the scheme of Target.
func (*Builder) Scheme() string { return Scheme }

// Build starts looking up all names, and repeats the lookups.
func (b *Builder) Build(_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	made := &mergedResolver{Builder: b, conn: conn, cancel: cancel}
	for _, endpoint := range b.Endpoints {
		host := &host{endpoint: endpoint, lookupNow: make(chan struct{}, 1)}
		if b.IsLiteral(endpoint) {
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
		made.running.Go(func() { made.watchName(ctx, name) })
	}
	return made, nil
}

// host is one endpoint and the result of its last lookup.
type host struct {
	endpoint  endpoints.Endpoint
	lookupNow chan struct{}

	addresses []string
	lookupErr error
}

type mergedResolver struct {
	*Builder
	conn    resolver.ClientConn
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex
	// names are the hosts that need lookups.
	hosts, names []*host
}

// ResolveNow triggers a lookup. gRPC calls it when connections fail.
func (m *mergedResolver) ResolveNow(resolver.ResolveNowOptions) {
	for _, name := range m.names {
		select {
		case name.lookupNow <- struct{}{}:
		default:
		}
	}
}

// Close stops the lookups.
func (m *mergedResolver) Close() {
	m.cancel()
	m.running.Wait()
}

// watchName looks a name up repeatedly until the context ends.
func (m *mergedResolver) watchName(ctx context.Context, name *host) {
	for unchanged := 1; ; unchanged++ {
		addresses, err := m.lookup(ctx, name.endpoint.Host)
		if ctx.Err() != nil {
			return
		}
		if m.applyLookup(name, addresses, err) {
			unchanged = 1
		}
		// The delay applies after every lookup, even if another one was requested: for an address without a listener,
		// gRPC requests one each second.
		delay := min(maxRetryInterval, minLookupInterval*time.Duration(unchanged))
		if clock.Sleep(ctx, m.Clock, delay) != nil {
			return
		}
		if err == nil && m.sleep(ctx, name, refreshInterval-delay) != nil {
			return
		}
	}
}

// sleep waits until d has passed or a lookup is requested.
func (m *mergedResolver) sleep(ctx context.Context, name *host, d time.Duration) error {
	elapsed, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := m.Clock.AfterFunc(d, cancel)
	defer stop()
	select {
	case <-name.lookupNow:
	case <-elapsed.Done():
	}
	return ctx.Err()
}

func (m *mergedResolver) lookup(ctx context.Context, name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addresses, err := m.Lookup(ctx, name)
	if err == nil && len(addresses) == 0 {
		err = errors.New("no addresses")
	}
	return addresses, err
}

// applyLookup stores the result of a lookup, and reports whether it is new. A failed lookup keeps the previous
// addresses, which may still work.
func (m *mergedResolver) applyLookup(name *host, addresses []string, err error) (isNew bool) {
	m.mu.Lock()
	name.lookupErr = err
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

// report passes the addresses of all hosts to gRPC.
func (m *mergedResolver) report() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addresses []replicaAddress
	var failed []error
	for _, host := range m.hosts {
		for _, address := range host.addresses {
			addresses = append(addresses, replicaAddress{host.endpoint.Authority(), net.JoinHostPort(address, host.endpoint.Port)})
		}
		if host.lookupErr != nil {
			failed = append(failed, fmt.Errorf("%s: %w", host.endpoint.Host, host.lookupErr))
		}
	}
	if len(addresses) == 0 {
		if len(failed) > 0 {
			m.conn.ReportError(errors.Join(failed...))
		}
		return
	}
	resolved := make([]resolver.Address, 0, len(addresses))
	for index, replica := range m.Pool.retain(addresses) {
		resolved = append(resolved, resolver.Address{
			Addr: addresses[index].address,
			// gRPC uses it both for certificate verification and as the :authority of calls.
			ServerName: addresses[index].authority,
			Attributes: replica.attributes(),
		})
	}
	state := resolver.State{Addresses: resolved, Attributes: attributes.New(poolKey{}, m.Pool)}
	// The error is ignored: it means that gRPC cannot use these addresses, which calls report too.
	_ = m.conn.UpdateState(state)
}
