package tenantauth

import (
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/tunnel"
)

// All replicas are used in turn: each keeps its own memory, and none should be idle when another one dies.
const serviceConfig = `{"loadBalancingConfig":[{"` + replicas.Policy + `":{}}]}`

// A peer that vanished without a word is noticed before a caller runs into it.
var keepaliveParameters = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

// A replica that was restarted is back within about a second, and one that is far away has time to answer.
var connectParameters = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1, Jitter: 0.1, MaxDelay: time.Second},
	MinConnectTimeout: 5 * time.Second,
}

func dial(texts []string, o *options, pool *replicas.Pool) (*grpc.ClientConn, error) {
	parsed, security, err := endpoints.Parse(texts)
	if err != nil {
		return nil, err
	}
	if security == endpoints.Plaintext && o.tls != nil {
		return nil, fmt.Errorf("endpoints %q: http:// is plaintext, and TLS is configured; use https://", texts)
	}
	transport := insecure.NewCredentials()
	switch {
	case o.tls != nil:
		transport = o.tls
	case security == endpoints.TLS:
		transport = credentials.NewTLS(nil)
	}
	lookup := o.lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	proxies := tunnel.Proxies{}
	if o.environmentProxy {
		if proxies, err = tunnel.FromEnvironment(parsed); err != nil {
			return nil, err
		}
	}
	found := &replicas.Builder{
		Endpoints: parsed, Pool: pool, Clock: o.clock, Lookup: lookup,
		Literal: func(e endpoints.Endpoint) bool { return e.Literal() || proxies[e.String()] != nil },
	}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(replicas.Credentials{TransportCredentials: transport, ServerName: o.serverName}),
		grpc.WithResolvers(found),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepaliveParameters),
		grpc.WithConnectParams(connectParameters),
		grpc.WithUserAgent(o.userAgent),
		// Unless asked for, proxies of the environment would be given customers' keys, and the caller's token.
		grpc.WithNoProxy(),
	}
	if len(proxies) > 0 {
		all = append(all, grpc.WithContextDialer(proxies.Dial))
	}
	if o.token != nil {
		all = append(all, grpc.WithPerRPCCredentials(o.token))
	}
	return grpc.NewClient(replicas.Target, append(all, o.dial...)...)
}
