// Package tunnel connects through the HTTP proxies of the environment.
package tunnel

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

// Proxies maps endpoints, as host:port, to the proxy through which they are reached. The proxy resolves their names.
type Proxies map[string]*url.URL

// FromEnvironment reads HTTPS_PROXY and NO_PROXY, in upper or lower case. Loopback addresses and cluster-local names
// are never reached through a proxy.
func FromEnvironment(all []endpoints.Endpoint) (Proxies, error) {
	choose := httpproxy.FromEnvironment().ProxyFunc()
	found := Proxies{}
	for _, endpoint := range all {
		if isLocal(endpoint) {
			continue
		}
		proxy, err := choose(&url.URL{Scheme: "https", Host: endpoint.String()})
		if err != nil {
			return nil, fmt.Errorf("proxy of the environment: %w", err)
		}
		if proxy == nil {
			continue
		}
		if proxy.Scheme != "http" || proxy.Hostname() == "" {
			return nil, fmt.Errorf("proxy of the environment: %q must be http://host:port", proxy.Redacted())
		}
		found[endpoint.String()] = proxy
	}
	return found, nil
}

// isLocal reports whether an endpoint must be reached directly.
func isLocal(endpoint endpoints.Endpoint) bool {
	if address, err := netip.ParseAddr(endpoint.Host); err == nil {
		return address.IsLoopback() || address.IsLinkLocalUnicast()
	}
	name := strings.ToLower(strings.TrimSuffix(endpoint.Host, "."))
	if !strings.Contains(name, ".") {
		return true
	}
	for _, domain := range []string{".svc", ".local", ".internal", ".localhost"} {
		if strings.HasSuffix(name, domain) {
			return true
		}
	}
	return false
}

// Dial connects to an address, through its proxy if there is one.
func (p Proxies) Dial(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	proxy := p[address]
	if proxy == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	port := proxy.Port()
	if port == "" {
		port = "80"
	}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	// The functions below do not support contexts.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	tunnel, err := connect(conn, proxy, address)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	return tunnel, nil
}

// connect asks the proxy for a tunnel (RFC 9110, 9.3.6).
func connect(conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Host: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("responded %s", response.Status)
	}
	// The server may already have sent data.
	early := io.LimitReader(reader, int64(reader.Buffered()))
	return &tunnelled{Conn: conn, reader: io.MultiReader(early, conn)}, nil
}

type tunnelled struct {
	net.Conn
	reader io.Reader
}

// Read returns the data that arrived with the proxy's response first.
func (t *tunnelled) Read(into []byte) (int, error) { return t.reader.Read(into) }
