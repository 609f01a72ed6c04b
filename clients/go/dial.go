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

// The client uses all replicas in turn: each replica has its own cache, and a failover should not hit a cold one.
const serviceConfig = `{"loadBalancingConfig":[{"` + replicas.Policy + `":{}}]}`

// Keepalive pings detect a peer that disappeared without closing the connection before a call uses it.
var keepaliveParameters = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

// A restarted replica is usually back within one second. The connect timeout leaves a distant replica enough time to
// respond.
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
		return nil, fmt.Errorf("endpoints %q: http:// means plaintext, but TLS is configured; use https://", texts)
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
		IsLiteral: func(e endpoints.Endpoint) bool { return e.IsAddress() || proxies[e.String()] != nil },
	}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(replicas.Credentials{TransportCredentials: transport, ServerName: o.serverName}),
		grpc.WithResolvers(found),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepaliveParameters),
		grpc.WithConnectParams(connectParameters),
		grpc.WithUserAgent(o.userAgent),
		// Proxies of the environment are off by default: they would see the customers' keys and the caller token.
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
