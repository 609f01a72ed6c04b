package tenantauth_test

import (
	"net"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// far is an address from which a service is so far away: whatever is sent arrives half a round trip later.
func far(t *testing.T, address string, roundTrip time.Duration) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", address)
			if err != nil {
				_ = here.Close()
				continue
			}
			go carry(here, there, roundTrip/2)
			go carry(there, here, roundTrip/2)
		}
	}()
	return listener.Addr().String()
}

type parcel struct {
	due  time.Time
	data []byte
}

// carry hands on what it reads, each piece after a while, without holding back what comes behind it.
func carry(from, to net.Conn, delay time.Duration) {
	parcels := make(chan parcel, 10_000)
	go func() {
		defer close(parcels)
		for {
			data := make([]byte, 16<<10)
			read, err := from.Read(data)
			parcels <- parcel{time.Now().Add(delay), data[:read]}
			if err != nil {
				return
			}
		}
	}()
	for next := range parcels {
		<-time.After(time.Until(next.due))
		if _, err := to.Write(next.data); err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range parcels {
		// Nobody is left to take it.
	}
}

func TestReplicasThatAreFarAwayAreAskedOnceAndInTime(t *testing.T) {
	first, second := two(t)
	ask := func(key tenantauth.Key, endpoints ...string) {
		t.Helper()
		// With the defaults, and the first calls that it makes.
		client := connectTo(t, endpoints, tenantauth.WithoutNearCache())
		for range 2 {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if _, err := client.RequireKey(t.Context(), key); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
	}
	for _, roundTrip := range []time.Duration{80 * time.Millisecond, 150 * time.Millisecond} {
		ask(shared, far(t, first.Address, roundTrip), far(t, second.Address, roundTrip))
		// The real service does not count for us, so fakes do: the distance alone makes no call two.
		near, next := fake.Start(t), fake.Start(t)
		near.Put(key, fake.Valid("key_1"))
		next.Put(key, fake.Valid("key_1"))
		ask(key, far(t, near.Address(), roundTrip), far(t, next.Address(), roundTrip))
		if calls := near.Calls("ValidateKey") + next.Calls("ValidateKey"); calls != 40 {
			t.Errorf("at %v, 40 calls became %d", roundTrip, calls)
		}
	}
}
