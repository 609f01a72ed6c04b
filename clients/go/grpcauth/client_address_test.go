package grpcauth_test

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// handled makes a call from an address, and returns the address that the handler gets.
func handled(t *testing.T, guard *grpcauth.Interceptor, from net.Addr, pairs ...string) string {
	t.Helper()
	return handledFrom(t, guard, &peer.Peer{Addr: from, LocalAddr: tcp("127.0.0.1:50051")}, pairs...)
}

func handledFrom(t *testing.T, guard *grpcauth.Interceptor, from *peer.Peer, pairs ...string) string {
	t.Helper()
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(append(pairs, "authorization", "Bearer ta_key")...))
	ctx = peer.NewContext(ctx, from)
	info := &grpc.UnaryServerInfo{FullMethod: "/orders.v1.Orders/List"}
	address, err := guard.Unary(ctx, nil, info, func(ctx context.Context, _ any) (any, error) { return fake.AddressOf(ctx), nil })
	if err != nil {
		t.Fatal(err)
	}
	return address.(string)
}

func tcp(address string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)) }

func TestInterceptorFillsInTheAddress(t *testing.T) {
	proxies := grpcauth.WithTrustedProxies("10.0.0.0/8", "2001:db8:1::1")
	for name, test := range map[string]struct {
		options []grpcauth.Option
		peer    net.Addr
		pairs   []string
		want    string
	}{
		"connection":               {nil, tcp("192.0.2.7:54321"), nil, "192.0.2.7"},
		"IPv6 connection":          {nil, tcp("[2001:db8::7]:54321"), nil, "2001:db8::7"},
		"IPv4 in IPv6 form":        {nil, tcp("[::ffff:192.0.2.7]:54321"), nil, "192.0.2.7"},
		"zone":                     {nil, tcp("[fe80::1%eth0]:54321"), nil, "fe80::1"},
		"forged metadata":          {nil, tcp("192.0.2.7:1"), []string{"x-forwarded-for", "198.51.100.1"}, "192.0.2.7"},
		"forged, with proxies":     {[]grpcauth.Option{proxies}, tcp("192.0.2.7:1"), []string{"x-forwarded-for", "10.0.0.1"}, "192.0.2.7"},
		"through a proxy":          {[]grpcauth.Option{proxies}, tcp("10.0.0.1:1"), []string{"x-forwarded-for", "203.0.113.1, 198.51.100.1"}, "198.51.100.1"},
		"through two proxies":      {[]grpcauth.Option{proxies}, tcp("[2001:db8:1::1]:1"), []string{"x-forwarded-for", "203.0.113.1,198.51.100.1", "x-forwarded-for", "10.0.0.2"}, "198.51.100.1"},
		"proxy without metadata":   {[]grpcauth.Option{proxies}, tcp("10.0.0.1:1"), nil, "none"},
		"proxy, malformed":         {[]grpcauth.Option{proxies}, tcp("10.0.0.1:1"), []string{"x-forwarded-for", "198.51.100.1, unknown"}, "none"},
		"other entry":              {[]grpcauth.Option{proxies, grpcauth.WithClientAddressHeader("X-Real-IP")}, tcp("10.0.0.1:1"), []string{"x-real-ip", "198.51.100.1", "x-forwarded-for", "203.0.113.1"}, "198.51.100.1"},
		"socket":                   {[]grpcauth.Option{proxies}, &net.UnixAddr{Name: "/run/peer.sock", Net: "unix"}, []string{"x-forwarded-for", "198.51.100.1"}, "none"},
		"socket with such a name":  {nil, &net.UnixAddr{Name: "192.0.2.7", Net: "unix"}, nil, "none"},
		"connection without names": {nil, nil, nil, "none"},
	} {
		service := &fake.AddressRecorder{}
		guard := interceptor(t, service, test.options...)
		if got := handled(t, guard, test.peer, test.pairs...); got != test.want || service.Address != test.want {
			t.Errorf("%s: validated with %s, handled with %s", name, service.Address, got)
		}
	}
	// Behind net/http on a Unix socket, gRPC reports a TCP peer whose address is the name of the peer's socket.
	socket := &net.UnixAddr{Name: "/run/server.sock", Net: "unix"}
	if got := handledFrom(t, interceptor(t, &fake.AddressRecorder{}), &peer.Peer{Addr: tcp("192.0.2.7:1"), LocalAddr: socket}); got != "none" {
		t.Errorf("socket of net/http: %s", got)
	}
	// A call without a peer, such as one within the process.
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer ta_key"))
	service := &fake.AddressRecorder{}
	_, err := interceptor(t, service).Unary(ctx, nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, nil })
	if err != nil || service.Address != "none" {
		t.Errorf("no peer: %s, %v", service.Address, err)
	}
}

func TestNetworksOfAKeyAreEnforced(t *testing.T) {
	auth := fake.Start(t)
	auth.Put("loopback", fake.Restricted("key_1", "127.0.0.0/8"))
	auth.Put("elsewhere", fake.Restricted("key_2", "192.0.2.0/24"))
	client, err := tenantauth.New(auth.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server, principals := serve(t, interceptor(t, client))
	if err := check(server, t, "authorization", "Bearer loopback", "x-forwarded-for", "192.0.2.7"); err != nil {
		t.Fatal(err)
	}
	if principal := <-principals; principal.KeyID != "key_1" {
		t.Errorf("%+v", principal)
	}
	if err := check(server, t, "authorization", "Bearer elsewhere", "x-forwarded-for", "192.0.2.7"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("forged metadata: %v", err)
	}
	behind, principals := serve(t, interceptor(t, client, grpcauth.WithTrustedProxies("127.0.0.1")))
	if err := check(behind, t, "authorization", "Bearer elsewhere", "x-forwarded-for", "192.0.2.7"); err != nil {
		t.Fatal(err)
	}
	<-principals
	if err := check(behind, t, "authorization", "Bearer loopback"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the proxy's own address was used: %v", err)
	}
	stream, err := behind.Watch(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer elsewhere", "x-forwarded-for", "203.0.113.1"), &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("stream: %v", err)
	}
}

func TestUnixSocketGivesNoAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	service := &fake.AddressRecorder{}
	guard := interceptor(t, service)
	server := grpc.NewServer(grpc.UnaryInterceptor(guard.Unary))
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := check(healthv1.NewHealthClient(conn), t, "authorization", "Bearer ta_key"); err != nil || service.Address != "none" {
		t.Errorf("%s, %v", service.Address, err)
	}
}
