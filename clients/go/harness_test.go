package tenantauth_test

import (
	"context"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
)

const (
	key   = "ta_canary_of_the_tests"
	scope = "orders:read"
	// testTimeout is the time after which a test fails if an expected event has not happened. Tests do not normally
	// take this long.
	testTimeout = 20 * time.Second
)

// rig is a fake service, a manual clock, and a client that uses both.
type rig struct {
	t       *testing.T
	service *fake.Server
	clock   *fakeclock.Clock
	client  *tenantauth.Client
	ctx     context.Context
}

func start(t *testing.T, options ...tenantauth.Option) *rig {
	t.Helper()
	return startWith(t, fake.Start(t), options...)
}

func startWith(t *testing.T, service *fake.Server, options ...tenantauth.Option) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	clock := fakeclock.New()
	service.Now(clock.Now)
	service.Put(key, fake.Valid("key_1", scope, "orders:write"))
	all := append([]tenantauth.Option{tenantauth.WithClock(clock)}, options...)
	client, err := tenantauth.New(service.Address(), all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &rig{t: t, service: service, clock: clock, client: client, ctx: ctx}
}

// startWatched is a rig whose watch stream is open and has received an event.
func startWatched(t *testing.T, options ...tenantauth.Option) (*rig, *fake.Stream) {
	t.Helper()
	service := fake.Start(t)
	service.ServeWatch()
	r := startWith(t, service, options...)
	stream := r.nextStream()
	stream.Heartbeat(10)
	r.await("the stream is live", func() bool { return r.client.WatchState() == tenantauth.WatchState{Live: true, Revision: 10} })
	return r, stream
}

func (r *rig) nextStream() *fake.Stream {
	r.t.Helper()
	select {
	case stream := <-r.service.Streams():
		return stream
	case <-r.ctx.Done():
		r.t.Fatal("no watch stream was opened")
		return nil
	}
}

// await polls until a condition holds.
func (r *rig) await(what string, so func() bool) {
	r.t.Helper()
	for !so() {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("condition never held: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// advance waits until a timer is registered that is due within d, and then advances the clock by d.
func (r *rig) advance(d time.Duration) {
	r.t.Helper()
	if err := r.clock.AwaitTimer(r.ctx, d); err != nil {
		r.t.Fatalf("no timer is due within %v", d)
	}
	r.clock.Advance(d)
}

// beat advances the clock while heartbeats arrive.
func (r *rig) beat(stream *fake.Stream, d time.Duration, revision int64) {
	r.t.Helper()
	for range d / time.Second {
		r.clock.Advance(time.Second)
		r.heartbeat(stream, revision)
	}
}

// heartbeat sends a heartbeat and waits until it was handled: the liveness timer then has its full duration again.
func (r *rig) heartbeat(stream *fake.Stream, revision int64) {
	r.t.Helper()
	stream.Heartbeat(revision)
	r.await("the liveness timer was restarted", func() bool { return r.clock.HasTimerIn(3 * time.Second) })
}

func (r *rig) validate(scopes ...string) tenantauth.Validation {
	r.t.Helper()
	validation, err := r.client.ValidateKey(r.ctx, key, scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return validation
}

func (r *rig) expect(what string, verdict tenantauth.Verdict, source tenantauth.Source) {
	r.t.Helper()
	validation := r.validate()
	if validation.Verdict != verdict || validation.Provenance.Source != source {
		r.t.Errorf("%s: %v from %v, want %v from %v", what, validation.Verdict, validation.Provenance.Source, verdict, source)
	}
}

func (r *rig) expectCalls(method string, calls int) {
	r.t.Helper()
	if made := r.service.Calls(method); made != calls {
		r.t.Errorf("%d calls of %s, want %d", made, method, calls)
	}
}
