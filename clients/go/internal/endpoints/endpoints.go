// Package endpoints finds the replicas of the service: one name or several, each resolved by DNS, all taken together.
package endpoints

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"
)

// Scheme is what targets of this package begin with.
const Scheme = "tenantauth"

// Parse reads "host:port,host:port"; http:// or https:// may stand before each, and tells whether TLS is wanted.
func Parse(text string) (hosts []string, secure bool, err error) {
	schemes := map[string]bool{}
	for _, endpoint := range strings.Split(text, ",") {
		endpoint = strings.TrimSpace(endpoint)
		scheme, host, found := strings.Cut(endpoint, "://")
		if !found {
			scheme, host = "", endpoint
		}
		if scheme != "" && scheme != "http" && scheme != "https" {
			return nil, false, fmt.Errorf("endpoint %q: must be host:port, http://host:port or https://host:port", endpoint)
		}
		name, port, err := net.SplitHostPort(strings.TrimSuffix(host, "/"))
		if err != nil || name == "" || port == "" {
			return nil, false, fmt.Errorf("endpoint %q: must name a host and a port, such as 127.0.0.1:50051", endpoint)
		}
		schemes[scheme] = true
		hosts = append(hosts, net.JoinHostPort(name, port))
	}
	if schemes["https"] && len(schemes) > 1 {
		return nil, false, errors.New("endpoints: some want TLS and some do not")
	}
	return hosts, schemes["https"], nil
}

// Target is what grpc.NewClient takes for these hosts.
func Target(hosts []string) string {
	return Scheme + ":///" + strings.Join(hosts, ",")
}

// Builder makes resolvers for targets of this package.
type Builder struct{}

// Scheme is the scheme of targets.
func (Builder) Scheme() string { return Scheme }

// Build starts one DNS resolver for each host. An address literal is its own answer.
func (Builder) Build(target resolver.Target, conn resolver.ClientConn, options resolver.BuildOptions) (resolver.Resolver, error) {
	dns := resolver.Get("dns")
	if dns == nil {
		return nil, errors.New("no DNS resolver is registered")
	}
	hosts := strings.Split(target.Endpoint(), ",")
	merged := &merged{conn: conn, found: make([][]resolver.Address, len(hosts)), failed: make([]error, len(hosts))}
	for index, host := range hosts {
		name := resolver.Target{URL: url.URL{Scheme: "dns", Path: "/" + host}}
		part := &part{ClientConn: conn, merged: merged, index: index, serverName: serverName(host)}
		child, err := dns.Build(name, part, options)
		if err != nil {
			merged.Close()
			return nil, err
		}
		merged.children = append(merged.children, child)
	}
	return merged, nil
}

// serverName is what the certificate of a host must be for.
func serverName(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	return name
}

type merged struct {
	conn resolver.ClientConn
	// children are complete before anybody gets to see this.
	children []resolver.Resolver

	mu     sync.Mutex
	found  [][]resolver.Address
	failed []error
}

func (m *merged) ResolveNow(options resolver.ResolveNowOptions) {
	for _, child := range m.children {
		child.ResolveNow(options)
	}
}

func (m *merged) Close() {
	for _, child := range m.children {
		child.Close()
	}
}

// update tells the channel what all hosts together resolve to. A host that cannot be found takes nothing from the others.
func (m *merged) update(index int, addresses []resolver.Address, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failed[index] = err
	if err == nil {
		m.found[index] = addresses
	}
	var all []resolver.Address
	for _, addresses := range m.found {
		all = append(all, addresses...)
	}
	if len(all) == 0 {
		if failed := errors.Join(m.failed...); failed != nil {
			m.conn.ReportError(failed)
		}
		return nil
	}
	return m.conn.UpdateState(resolver.State{Addresses: all})
}

// part is the channel as the resolver of one host sees it.
type part struct {
	resolver.ClientConn
	merged     *merged
	index      int
	serverName string
}

// UpdateState takes the addresses alone: how to balance is not for those to decide who can write a TXT record.
func (p *part) UpdateState(state resolver.State) error {
	addresses := make([]resolver.Address, 0, len(state.Addresses))
	for _, address := range state.Addresses {
		addresses = append(addresses, resolver.Address{Addr: address.Addr, ServerName: p.serverName})
	}
	return p.merged.update(p.index, addresses, nil)
}

func (p *part) ReportError(err error) { _ = p.merged.update(p.index, nil, err) }
