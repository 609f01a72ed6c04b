// Package fake is a tenant-auth service for tests. The test controls its responses, and it counts calls.
package fake

import (
	"context"
	"net"
	"path"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Server is a service in this process, on its own port.
type Server struct {
	info
	validation
	sessions
	usage
	limits
	watch

	listener net.Listener
	server   *grpc.Server

	mu     sync.Mutex
	calls  map[string]int
	header map[string]metadata.MD
	before func(ctx context.Context, method string, request any) error
}

// Start starts a server that runs until the test ends.
func Start(t testing.TB, options ...grpc.ServerOption) *Server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{listener: listener, calls: map[string]int{}, header: map[string]metadata.MD{}}
	s.validation.init()
	s.sessions.init(&s.validation)
	s.usage.init()
	s.limits.init(&s.validation)
	s.watch.init()
	// Like the real service, it accepts pings at any rate.
	pings := grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 1, PermitWithoutStream: true})
	s.server = grpc.NewServer(append(options, pings, grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))...)
	tenantauthv1.RegisterInfoServiceServer(s.server, s)
	tenantauthv1.RegisterValidationServiceServer(s.server, s)
	tenantauthv1.RegisterSessionServiceServer(s.server, s)
	tenantauthv1.RegisterUsageServiceServer(s.server, s)
	tenantauthv1.RegisterLimitServiceServer(s.server, s)
	tenantauthv1.RegisterWatchServiceServer(s.server, s)
	go func() { _ = s.server.Serve(listener) }()
	t.Cleanup(s.Stop)
	return s
}

// Address returns the address that the server listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Now sets the clock by which sessions expire and heartbeats are sent.
func (s *Server) Now(now func() time.Time) {
	s.sessions.setNow(now)
	s.watch.setNow(now)
}

// Stop stops the server immediately. It closes the port first, even if serving has not started, so that clients do not
// wait for it.
func (s *Server) Stop() {
	_ = s.listener.Close()
	s.server.Stop()
}

// Calls returns how often a method, such as ValidateKey, was called.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Header returns the metadata of the last call of a method.
func (s *Server) Header(method string) metadata.MD {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header[method]
}

// Before sets a hook that runs before each unary call. If the hook returns an error, the call fails with it; while the
// hook blocks, the call waits.
func (s *Server) Before(hook func(ctx context.Context, method string, request any) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = hook
}

func (s *Server) count(ctx context.Context, fullMethod string) (string, func(context.Context, string, any) error) {
	method := path.Base(fullMethod)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
	s.header[method], _ = metadata.FromIncomingContext(ctx)
	return method, s.before
}

func (s *Server) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method, before := s.count(ctx, info.FullMethod)
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-request-id", "request-of-"+method)); err != nil {
		return nil, err
	}
	if before != nil {
		if err := before(ctx, method, request); err != nil {
			return nil, err
		}
	}
	return handler(ctx, request)
}

func (s *Server) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s.count(stream.Context(), info.FullMethod)
	return handler(service, stream)
}
