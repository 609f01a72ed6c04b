package tenantauth_test

import (
	"net"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// far is an address that forwards to a service with a delay of half a round trip in each direction.
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

// carry forwards data, each chunk after a delay, without holding back later chunks.
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
		// The error is ignored because the receiver is gone.
	}
}

func TestDistantReplicaIsCalledOncePerRequest(t *testing.T) {
	first, second := two(t)
	ask := func(key tenantauth.Key, endpoints ...string) {
		t.Helper()
		// The client uses the defaults, and these are its first calls.
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
		// The real service does not count calls, so fakes are used: distance alone must not cause a second call.
		near, next := fake.Start(t), fake.Start(t)
		near.Put(key, fake.Valid("key_1"))
		next.Put(key, fake.Valid("key_1"))
		ask(key, far(t, near.Address(), roundTrip), far(t, next.Address(), roundTrip))
		if calls := near.Calls("ValidateKey") + next.Calls("ValidateKey"); calls != 40 {
			t.Errorf("round trip %v: 40 calls caused %d RPCs", roundTrip, calls)
		}
	}
}
