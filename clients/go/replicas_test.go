package tenantauth_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// These tests use several replicas, which are real processes where possible.

// shared is a key that all replicas of a test accept.
const shared = "a-key-of-another-system"

// putShared makes a service accept the shared key.
func putShared(t *testing.T, real *service.Service, options ...tenantauth.Option) {
	t.Helper()
	client := connectTo(t, []string{real.Address}, append(options, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))...)
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	if real.Key == "" {
		if _, err := admin.CreateTenant(t.Context(), &tenantauthv1.CreateTenantRequest{TenantId: "ten_demo", Name: "Demo"}); err != nil {
			t.Fatal(err)
		}
	}
	digest := sha256.Sum256([]byte(shared))
	reply, err := admin.ImportKeys(t.Context(), &tenantauthv1.ImportKeysRequest{Keys: []*tenantauthv1.ImportKey{
		{TenantId: "ten_demo", Name: "shared", Sha256: digest[:], Scopes: []string{"demo:read"}},
	}})
	if err != nil || reply.GetResults()[0].GetError() != nil {
		t.Fatalf("%v, %v", reply, err)
	}
}

func connectTo(t *testing.T, endpoints []string, options ...tenantauth.Option) *tenantauth.Client {
	t.Helper()
	client, err := tenantauth.New(endpoints, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// isFirst reports whether the first of two replicas responds: only it knows its demo key.
func isFirst(t *testing.T, client *tenantauth.Client, first *service.Service) (isFirst bool) {
	t.Helper()
	validation, err := client.ValidateKey(t.Context(), tenantauth.Key(first.Key))
	if err != nil {
		t.Fatal(err)
	}
	return validation.IsValid()
}

// usesBoth sends requests until both replicas have responded.
func usesBoth(t *testing.T, client *tenantauth.Client, first *service.Service) {
	t.Helper()
	answered := map[bool]bool{}
	eventually(t, func() bool {
		answered[isFirst(t, client, first)] = true
		return len(answered) == 2
	})
}

func two(t *testing.T) (first, second *service.Service) {
	t.Helper()
	first, second = service.Start(t), service.Start(t)
	putShared(t, first)
	putShared(t, second)
	return first, second
}

func TestHungReplicaFailsNoCallAndIsSkipped(t *testing.T) {
	first, second := two(t)
	client := connectTo(t, []string{first.Address, second.Address}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(time.Second))
	usesBoth(t, client, first)
	second.Suspend()
	// The calls are concurrent, so that each has its own second.
	turns := time.NewTicker(5 * time.Millisecond)
	defer turns.Stop()
	var all sync.WaitGroup
	for range 300 {
		<-turns.C
		all.Go(func() {
			if _, err := client.RequireKey(t.Context(), shared); err != nil {
				t.Errorf("with one replica stopped: %v", err)
			}
		})
	}
	all.Wait()
	// These calls are never hedged: on the hung replica they would have failed.
	raw := tenantauthv1.NewInfoServiceClient(client.Raw())
	for range 50 {
		if _, err := raw.GetServerInfo(t.Context(), &tenantauthv1.GetServerInfoRequest{}); err != nil {
			t.Fatalf("a call went to the hung replica: %v", err)
		}
	}
	second.Resume()
	usesBoth(t, client, first)
}

func TestWriteLostByHungReplicaIsRetriedElsewhere(t *testing.T) {
	first, second := two(t)
	client := connectTo(t, []string{first.Address, second.Address}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(2*time.Second))
	usesBoth(t, client, first)
	second.Suspend()
	for range 4 {
		batch := tenantauth.UsageBatch{Events: []tenantauth.UsageEvent{{TenantID: "ten_demo", Metric: "calls", Quantity: 1}}}
		if _, err := client.RecordUsage(t.Context(), batch); err != nil {
			t.Errorf("%v", err)
		}
	}
}

func TestReplacedReplicaFailsNoCallAndIsUsedAgain(t *testing.T) {
	first, second := two(t)
	client := connectTo(t, []string{first.Address, second.Address}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(time.Second))
	usesBoth(t, client, first)
	for _, end := range []func(){second.Kill, second.Stop} {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			end()
		}()
		for done := false; !done; {
			select {
			case <-ended:
				done = true
			default:
			}
			if _, err := client.RequireKey(t.Context(), shared); err != nil {
				t.Fatalf("while a replica shuts down: %v", err)
			}
		}
		second.Restart()
		usesBoth(t, client, first)
	}
}

func TestIPv6AddressesWork(t *testing.T) {
	first, second := service.StartAt(t, "[::1]:0"), service.Start(t)
	putShared(t, first)
	putShared(t, second)
	for _, endpoint := range []string{first.Address, "dns:///" + first.Address, "http://" + first.Address} {
		client := connectTo(t, []string{endpoint}, tenantauth.WithTimeout(testTimeout))
		if _, err := client.RequireKey(t.Context(), tenantauth.Key(first.Key)); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	client := connectTo(t, []string{first.Address + "," + second.Address}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	usesBoth(t, client, first)
}

// names is a DNS resolver for tests.
type names struct {
	mu    sync.Mutex
	known map[string][]string
}

func (n *names) set(name string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[name] = addresses
}

func (n *names) lookup(_ context.Context, name string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addresses := n.known[name]; len(addresses) > 0 {
		return addresses, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func TestNameThatAppearsLateIsUsedWithinSeconds(t *testing.T) {
	first, second := two(t)
	dns := &names{known: map[string][]string{}}
	clock := fakeclock.New()
	client := connectTo(t, []string{"one:" + port(first.Address), "two:" + port(second.Address)},
		tenantauth.WithoutNearCache(), tenantauth.WithAttempts(1), tenantauth.WithTimeout(testTimeout),
		tenantauth.WithClock(clock), tenantauth.WithLookup(dns.lookup))
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	pass := func(names int, d time.Duration) {
		t.Helper()
		if err := clock.AwaitTimers(ctx, names, d); err != nil {
			t.Fatalf("no lookup within %v", d)
		}
		clock.Advance(d)
	}
	for _, wait := range []time.Duration{1, 2, 3, 4, 5, 5} {
		pass(2, wait*time.Second)
	}
	if _, err := client.ServerInfo(ctx); !errors.Is(err, tenantauth.ErrUnavailable) {
		t.Errorf("before any name resolves: %v", err)
	}
	dns.set("one", "127.0.0.1")
	pass(2, 5*time.Second)
	eventually(t, func() bool {
		_, err := client.RequireKey(ctx, shared)
		return err == nil
	})
	dns.set("two", "127.0.0.1")
	pass(1, 5*time.Second)
	usesBoth(t, client, first)
	// The names are looked up again, and a name that no longer resolves keeps its addresses.
	dns.set("two")
	pass(2, 30*time.Second)
	pass(2, 30*time.Second)
	usesBoth(t, client, first)
}

func TestUnansweredRequestIsHedged(t *testing.T) {
	slow, quick := fake.Start(t), fake.Start(t)
	quick.Put(key, fake.Valid("key_1"))
	slow.Put(key, fake.Valid("key_1"))
	clock := fakeclock.New()
	client := connectTo(t, []string{slow.Address(), quick.Address()}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout),
		tenantauth.WithClock(clock), tenantauth.WithHedgeAfter(time.Second))
	for slow.Calls("GetServerInfo") == 0 || quick.Calls("GetServerInfo") == 0 {
		if _, err := client.ServerInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	abandoned := make(chan struct{}, 100)
	slow.Before(func(ctx context.Context, _ string, _ any) error {
		<-ctx.Done()
		abandoned <- struct{}{}
		return ctx.Err()
	})
	for range 4 {
		before, answered := slow.Calls("ValidateKey"), make(chan error, 1)
		go func() {
			_, err := client.RequireKey(t.Context(), key)
			answered <- err
		}()
		eventually(t, func() bool { return slow.Calls("ValidateKey") > before || len(answered) == 1 })
		if slow.Calls("ValidateKey") > before {
			clock.Advance(time.Second)
			// The slow replica sees the cancellation.
			<-abandoned
		}
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	if slow.Calls("ValidateKey") == 0 {
		t.Error("only one replica got the request")
	}
}

func TestWriteIsNeverHedged(t *testing.T) {
	first, second := fake.Start(t), fake.Start(t)
	clock := fakeclock.New()
	client := connectTo(t, []string{first.Address(), second.Address()}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout),
		tenantauth.WithClock(clock), tenantauth.WithHedgeAfter(time.Second))
	for first.Calls("GetServerInfo") == 0 || second.Calls("GetServerInfo") == 0 {
		if _, err := client.ServerInfo(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	release := make(chan struct{})
	hold := func(context.Context, string, any) error {
		<-release
		return nil
	}
	first.Before(hold)
	second.Before(hold)
	answered := make(chan error, 1)
	go func() {
		_, err := client.RecordUsage(t.Context(), tenantauth.UsageBatch{Events: []tenantauth.UsageEvent{event("calls")}})
		answered <- err
	}()
	calls := func() int { return first.Calls("RecordUsage") + second.Calls("RecordUsage") }
	eventually(t, func() bool { return calls() == 1 })
	clock.Advance(time.Second)
	close(release)
	if err := <-answered; err != nil || calls() != 1 {
		t.Errorf("%d calls, %v", calls(), err)
	}
}
