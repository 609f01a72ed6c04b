package tenantauth_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestReleasedGuardsLeaveNothing(t *testing.T) {
	r, _ := startWatched(t)
	principal := r.admit()
	r.guard(principal)
	before, timers := runtime.NumGoroutine(), r.clock.Timers()
	kept := func() (guards int) {
		guards, _ = tenantauth.Guards(r.client)
		return guards
	}
	for name, leave := range map[string]func(leave, release context.CancelFunc){
		"the stream ends":   func(_, release context.CancelFunc) { release() },
		"the caller leaves": func(leave, _ context.CancelFunc) { leave() },
		"both, repeatedly":  func(leave, release context.CancelFunc) { release(); leave(); release() },
	} {
		var leaves []func()
		for range 1_000 {
			ctx, cancel := context.WithCancel(r.ctx)
			guarded, release, err := r.client.Guard(ctx, principal)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, func() {
				leave(cancel, release)
				if _, ended := tenantauth.EndOf(guarded); ended || !errors.Is(context.Cause(guarded), context.Canceled) {
					t.Errorf("%s: %v", name, context.Cause(guarded))
				}
				cancel()
			})
		}
		if kept() != 1_001 {
			t.Errorf("%s: %d guards", name, kept())
		}
		for _, leave := range leaves {
			leave()
		}
		r.await(name, func() bool { return kept() == 1 && runtime.NumGoroutine() <= before && r.clock.Timers() <= timers })
	}
}

func TestEndedGuardsLeaveNothing(t *testing.T) {
	r, stream := startWatched(t)
	before := runtime.NumGoroutine()
	r.service.Put(key, expiring(r.clock.Now().Add(time.Hour)))
	principal := r.admit()
	var all []context.Context
	for range 1_000 {
		all = append(all, r.guard(principal))
	}
	r.service.Put(key, fake.At(12, fake.Denied(revoked, "key_1")))
	stream.Invalidate(12, scopeKey, "key_1")
	for _, guarded := range all {
		r.expectEnd("revoked", guarded, "REVOKED")
	}
	r.expectCalls("ValidateKey", 2)
	r.await("nothing is left", func() bool {
		guards, subjects := tenantauth.Guards(r.client)
		return guards == 0 && subjects == 0 && runtime.NumGoroutine() <= before && r.clock.Farthest() <= 3*time.Second
	})
}

func TestTenThousandIdleGuardsCostNoCallsAndNoTimers(t *testing.T) {
	const keys, streams = 1_000, 10
	r, stream := startWatched(t)
	for n := range keys {
		plaintext := fmt.Sprintf("ta_key_%d", n)
		r.service.Put(plaintext, fake.Valid(fmt.Sprintf("key_%d", n)))
		principal, err := r.client.RequireKey(r.ctx, tenantauth.Key(plaintext))
		if err != nil {
			t.Fatal(err)
		}
		for range streams {
			r.guard(principal)
		}
	}
	goroutines, timers := runtime.NumGoroutine(), r.clock.Timers()
	// The lifetime of the answers in the near cache is exceeded.
	r.beat(stream, 2*time.Minute, 11)
	r.expectCalls("ValidateKey", keys)
	if after := r.clock.Timers(); after > timers || timers > 10 {
		t.Errorf("%d timers, then %d", timers, after)
	}
	if after := runtime.NumGoroutine(); after > goroutines {
		t.Errorf("%d goroutines, then %d", goroutines, after)
	}
	guards, subjects := tenantauth.Guards(r.client)
	if guards != keys*streams || subjects != keys+1 {
		t.Errorf("%d guards of %d subjects", guards, subjects)
	}
	for n := range keys {
		r.service.Put(fmt.Sprintf("ta_key_%d", n), fake.At(12, fake.Valid(fmt.Sprintf("key_%d", n))))
	}
	// A change of their tenant concerns all of them: one call per key.
	stream.Invalidate(12, scopeTenant, "ten_1")
	r.awaitCalls(2 * keys)
	if guards, _ := tenantauth.Guards(r.client); guards != keys*streams {
		t.Errorf("%d guards are left", guards)
	}
}

func TestPrincipalWithoutAKeyCannotBeGuarded(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	validation := r.validate()
	principal, err := validation.Principal()
	if err != nil {
		t.Fatal(err)
	}
	r.guard(principal)
	for name, principal := range map[string]tenantauth.Principal{
		"made by hand": {TenantID: "ten_1", KeyID: "key_1"}, "none": {},
		"of a token": tenantauth.VerifiedPrincipal{Principal: tenantauth.Principal{KeyID: "key_1"}}.Principal,
	} {
		_, _, err := r.client.Guard(r.ctx, principal)
		if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "principal" {
			t.Errorf("%s: %+v", name, made)
		}
	}
	outcomes, err := r.client.ValidateKeys(r.ctx, []tenantauth.KeyQuery{{Key: "ta_unknown"}, {Key: key, Scopes: []string{scope}}})
	if err != nil {
		t.Fatal(err)
	}
	if principal, err = outcomes[1].Principal(); err != nil {
		t.Fatal(err)
	}
	r.expectLive("of a batch", r.guard(principal))
}

func TestInvalidGuardOptionIsRejected(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	principal := r.admit()
	for name, option := range map[string]tenantauth.GuardOption{
		"nil": nil, "no scope": tenantauth.WithGuardScopes("Orders Read"),
		"no tolerance": tenantauth.WithGuardTolerance(0), "too long": tenantauth.WithGuardTolerance(25 * time.Hour),
	} {
		if _, _, err := r.client.Guard(r.ctx, principal, option); !errors.Is(err, tenantauth.ErrInvalid) || tenantauth.CheckGuardOptions(option) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if guards, _ := tenantauth.Guards(r.client); guards != 0 {
		t.Errorf("%d guards", guards)
	}
}

func TestClosingTheClientEndsItsStreams(t *testing.T) {
	r, _ := startWatched(t)
	principal := r.admit()
	guarded := r.guard(principal)
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	if ended := r.expectEnd("closed", guarded, "UNDECIDED"); !errors.Is(ended, tenantauth.ErrClosed) || ended.Verdict != 0 {
		t.Errorf("%+v", ended)
	}
	if _, _, err := r.client.Guard(r.ctx, principal); !errors.Is(err, tenantauth.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestClosingTheClientEndsAHungValidation(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	guarded := r.guard(r.admit())
	r.service.Before(hang)
	r.clock.Advance(fake.DefaultCacheableFor)
	r.await("the call", func() bool { return r.service.Calls("ValidateKey") == 2 })
	_ = r.client.Close()
	r.expectEnd("closed", guarded, "UNDECIDED")
}

func TestOwnChangeEndsTheStreamWithoutTheWatchStream(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	guarded := r.guard(r.admit())
	r.service.Put(key, fake.Denied(revoked, "key_1"))
	// The fake does not implement AdminService, so the call fails like one whose response was lost.
	_, _ = tenantauthv1.NewAdminServiceClient(r.client.Raw()).RevokeKey(r.ctx, &tenantauthv1.RevokeKeyRequest{KeyId: "key_1"})
	r.expectEnd("revoked by this program", guarded, "REVOKED")
}

func TestNetworksOfAKeyAreComparedWithTheAddressOfEachStream(t *testing.T) {
	r, stream := startWatched(t)
	r.service.Put(key, fake.Restricted("key_1", "192.0.2.0/24", "198.51.100.0/24"))
	from := func(address string) context.Context {
		ctx := tenantauth.ContextWithClientAddressText(r.ctx, address)
		principal, err := r.client.RequireKey(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		return r.guard(principal)
	}
	one, other := from("192.0.2.7"), from("198.51.100.7")
	r.service.Put(key, fake.At(12, fake.Restricted("key_1", "198.51.100.0/24")))
	stream.Invalidate(12, scopeKey, "key_1")
	r.expectEnd("from a network that was removed", one, "ADDRESS_NOT_ALLOWED")
	r.awaitCalls(2)
	r.expectLive("from another network", other)
}

func TestWebSocketIsClosedWithTheVerdict(t *testing.T) {
	r, stream := startWatched(t, tenantauth.WithAttempts(1), unhedged)
	answer := fake.Valid("key_1")
	answer.Provenance.CacheableWhileWatched = durationpb.New(time.Hour)
	r.service.Put(key, answer)
	guarded := r.guard(r.admit())
	r.service.Put(key, fake.At(12, fake.Denied(tenantauthv1.Verdict_VERDICT_TENANT_SUSPENDED, "key_1")))
	stream.Invalidate(12, scopeKey, "key_1")
	if code, reason := r.expectEnd("suspended", guarded, "TENANT_SUSPENDED").WebSocketClose(); code != 1008 || reason != "TENANT_SUSPENDED" {
		t.Errorf("%d %s", code, reason)
	}
	r.service.Put(key, fake.At(13, fake.Valid("key_1")))
	stream.Invalidate(13, scopeKey, "key_1")
	r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 13 })
	guarded = r.guard(r.admit())
	_ = r.client.Close()
	if code, reason := r.expectEnd("undecided", guarded, "UNDECIDED").WebSocketClose(); code != 1013 || reason != "UNDECIDED" {
		t.Errorf("%d %s", code, reason)
	}
}
