package tenantauth_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// unhedged makes the timers of validations later than those of guards.
var unhedged = tenantauth.WithHedgeAfter(time.Hour)

const revoked = tenantauthv1.Verdict_VERDICT_REVOKED

// admit returns the principal of the rig's key.
func (r *rig) admit(scopes ...string) tenantauth.Principal {
	r.t.Helper()
	principal, err := r.client.RequireKey(r.ctx, key, scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return principal
}

func (r *rig) guard(principal tenantauth.Principal, options ...tenantauth.GuardOption) context.Context {
	r.t.Helper()
	guarded, release, err := r.client.Guard(r.ctx, principal, options...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(release)
	return guarded
}

// expectEnd waits for the end of a guarded context.
func (r *rig) expectEnd(what string, guarded context.Context, code string) *tenantauth.Ended {
	r.t.Helper()
	select {
	case <-guarded.Done():
	case <-r.ctx.Done():
		r.t.Fatalf("%s: the stream did not end", what)
	}
	ended, ok := tenantauth.EndOf(guarded)
	if !ok || ended.Code() != code {
		r.t.Fatalf("%s: ended by %v, want %s", what, context.Cause(guarded), code)
	}
	return ended
}

func (r *rig) expectLive(what string, guarded context.Context) {
	r.t.Helper()
	if guarded.Err() != nil {
		r.t.Fatalf("%s: ended by %v", what, context.Cause(guarded))
	}
}

// awaitCalls waits for calls of ValidateKey whose results were applied.
func (r *rig) awaitCalls(calls int) {
	r.t.Helper()
	r.await("the validations", func() bool { return r.service.Calls("ValidateKey") == calls && !tenantauth.IsChecking(r.client) })
}

// retryUntilEnd advances the clock while a guard waits before it validates again, until it ends its context.
func (r *rig) retryUntilEnd(guarded context.Context) {
	for r.clock.AwaitTimer(guarded, 250*time.Millisecond) == nil {
		r.clock.Advance(10 * time.Millisecond)
	}
}

// fail makes each validation fail, without retries of the client itself.
func (r *rig) fail() {
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "ValidateKey" {
			return status.Error(codes.Internal, "a defect")
		}
		return nil
	})
}

func TestReportedDenialEndsTheStream(t *testing.T) {
	for name, subject := range map[string]struct {
		scope tenantauthv1.InvalidationScope
		id    string
	}{"key": {scopeKey, "key_1"}, "tenant": {scopeTenant, "ten_1"}} {
		t.Run(name, func(t *testing.T) {
			r, stream := startWatched(t)
			guarded := r.guard(r.admit())
			r.service.Put(key, fake.At(12, fake.Denied(revoked, "key_1")))
			stream.Invalidate(12, subject.scope, subject.id)
			ended := r.expectEnd("revoked", guarded, "REVOKED")
			var denied *tenantauth.Denied
			if ended.Verdict != tenantauth.Revoked || !errors.As(context.Cause(guarded), &denied) || denied.Verdict != tenantauth.Revoked {
				t.Errorf("%+v", ended)
			}
			r.expectCalls("ValidateKey", 2)
		})
	}
}

func TestStreamGoesOnWhileTheKeyIsValidAndHoldsItsScopes(t *testing.T) {
	r, stream := startWatched(t)
	guarded, wider := r.guard(r.admit(scope)), r.guard(r.admit(scope), tenantauth.WithGuardScopes("orders:write"))
	r.service.Put(key, fake.At(12, fake.Valid("key_1", scope)))
	stream.Invalidate(12, scopeKey, "key_1")
	var denied *tenantauth.Denied
	if ended := r.expectEnd("without its scope", wider, "INSUFFICIENT_SCOPE"); !errors.As(ended, &denied) || !slices.Equal(denied.MissingScopes, []string{"orders:write"}) {
		t.Errorf("%+v", ended)
	}
	r.awaitCalls(2)
	r.expectLive("with its scope", guarded)
	r.service.Put(key, fake.At(13, fake.Valid("key_1", "orders:write")))
	stream.Invalidate(13, scopeKey, "key_1")
	r.expectEnd("without its scope too", guarded, "INSUFFICIENT_SCOPE")
}

func TestChangesOfOthersCostNoCall(t *testing.T) {
	r, stream := startWatched(t)
	guarded := r.guard(r.admit())
	stream.Invalidate(12, scopeKey, "key_2")
	stream.Invalidate(13, scopeTenant, "ten_2")
	r.await("the events are handled", func() bool { return r.client.WatchState().Revision == 13 })
	r.expectLive("after changes of others", guarded)
	r.expectCalls("ValidateKey", 1)
}

func TestStartOverValidatesAllStreams(t *testing.T) {
	for name, event := range map[string]func(*fake.Stream){
		"START_OVER":    func(stream *fake.Stream) { stream.StartOver(3) },
		"unknown scope": func(stream *fake.Stream) { stream.Invalidate(3, 99, "any") },
		"too slow":      func(stream *fake.Stream) { stream.End(status.Error(codes.ResourceExhausted, "too slow")) },
	} {
		t.Run(name, func(t *testing.T) {
			r, stream := startWatched(t)
			r.service.Put("ta_other", fake.Valid("key_2"))
			other, err := r.client.RequireKey(r.ctx, "ta_other")
			if err != nil {
				t.Fatal(err)
			}
			guarded, others := r.guard(r.admit()), r.guard(other)
			r.service.Put(key, fake.Denied(revoked, "key_1"))
			event(stream)
			r.expectEnd("revoked", guarded, "REVOKED")
			r.awaitCalls(4)
			r.expectLive("the other", others)
		})
	}
}

func TestSessionStreamEndsWithTheSession(t *testing.T) {
	r, stream := startWatched(t)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
	principal, err := r.client.RequireSession(r.ctx, session, key)
	if err != nil {
		t.Fatal(err)
	}
	guarded := r.guard(principal)
	elsewhere := connectTo(t, []string{r.service.Address()}, tenantauth.WithoutNearCache())
	if _, err := elsewhere.UnbindSession(r.ctx, session, "ten_1"); err != nil {
		t.Fatal(err)
	}
	r.service.PutUnbound(fake.DefaultRevision + 2)
	stream.Invalidate(12, scopeSession, session)
	if ended := r.expectEnd("unbound", guarded, "UNBOUND"); ended.Verdict != tenantauth.Unbound {
		t.Errorf("%+v", ended)
	}
}

func TestSessionStreamFollowsTheKeyThatTheSessionIsBoundTo(t *testing.T) {
	r, stream := startWatched(t)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
	principal, err := r.client.RequireSession(r.ctx, session, "")
	if err != nil {
		t.Fatal(err)
	}
	guarded := r.guard(principal)
	r.service.Put("ta_other", fake.At(12, fake.Valid("key_2")))
	elsewhere := connectTo(t, []string{r.service.Address()}, tenantauth.WithoutNearCache())
	if _, err := elsewhere.UnbindSession(r.ctx, session, "ten_1"); err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.BindSession(r.ctx, tenantauth.Bind{SessionID: session, Key: "ta_other", TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	stream.Invalidate(12, scopeSession, session)
	r.await("the validation", func() bool { return r.service.Calls("ValidateSession") > 1 && !tenantauth.IsChecking(r.client) })
	r.expectLive("bound to another key of the tenant", guarded)
	r.service.Put("ta_other", fake.At(13, fake.Denied(revoked, "key_2")))
	stream.Invalidate(13, scopeKey, "key_2")
	r.expectEnd("the other key is revoked", guarded, "REVOKED")
}

func TestUndecidedReportEndsTheStreamWithinASecond(t *testing.T) {
	r, stream := startWatched(t, tenantauth.WithAttempts(1), unhedged)
	guarded := r.guard(r.admit())
	r.fail()
	stream.Invalidate(12, scopeKey, "key_1")
	for passed := time.Duration(0); passed < time.Second; passed += 10 * time.Millisecond {
		if err := r.clock.AwaitTimer(guarded, 250*time.Millisecond); err != nil {
			t.Fatalf("ended after %v", passed)
		}
		r.clock.Advance(10 * time.Millisecond)
	}
	r.expectEnd("after a second", guarded, "UNDECIDED")
	if calls := r.service.Calls("ValidateKey"); calls < 3 {
		t.Errorf("ended after %d calls", calls)
	}
}

func TestReportIsValidatedAgainAfterAnError(t *testing.T) {
	r, stream := startWatched(t, tenantauth.WithAttempts(1), unhedged)
	guarded := r.guard(r.admit())
	r.fail()
	stream.Invalidate(12, scopeKey, "key_1")
	r.await("the first attempt", func() bool { return r.service.Calls("ValidateKey") == 2 })
	r.service.Put(key, fake.At(12, fake.Valid("key_1", scope)))
	r.service.Before(nil)
	r.advance(250 * time.Millisecond)
	r.awaitCalls(3)
	r.expectLive("after the retry", guarded)
}

func TestAnswerOfALaggingReplicaDoesNotKeepTheStream(t *testing.T) {
	r, stream := startWatched(t, unhedged)
	guarded := r.guard(r.admit())
	// The replica that answers does not know the change of revision 12 yet.
	stream.Invalidate(12, scopeKey, "key_1")
	r.await("the first attempt", func() bool { return r.service.Calls("ValidateKey") == 2 })
	r.service.Put(key, fake.At(12, fake.Denied(revoked, "key_1")))
	r.retryUntilEnd(guarded)
	r.expectEnd("when the replica has caught up", guarded, "REVOKED")
}

func TestChangeBetweenValidationAndGuardIsNotMissed(t *testing.T) {
	r, stream := startWatched(t)
	principal := r.admit()
	r.service.Put(key, fake.At(12, fake.Denied(revoked, "key_1")))
	stream.Invalidate(12, scopeKey, "key_1")
	r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 12 })
	r.expectEnd("revoked before", r.guard(principal), "REVOKED")
	// By now the denial is cached.
	r.expectEnd("a second stream", r.guard(principal), "REVOKED")
	r.expectCalls("ValidateKey", 2)
}

func TestReportDoesNotWaitForAHungValidation(t *testing.T) {
	r, stream := startWatched(t, tenantauth.WithTimeout(testTimeout), unhedged)
	r.service.Put(key, expiring(r.clock.Now().Add(time.Second)))
	guarded := r.guard(r.admit())
	release := make(chan struct{})
	r.service.Before(func(ctx context.Context, method string, _ any) error {
		if method == "ValidateKey" {
			close(release)
			return hang(ctx, method, nil)
		}
		return nil
	})
	r.clock.Advance(time.Second)
	<-release
	r.service.Before(nil)
	r.service.Put(key, fake.At(12, fake.Denied(revoked, "key_1")))
	stream.Invalidate(12, scopeKey, "key_1")
	r.expectEnd("revoked", guarded, "REVOKED")
}

// hang blocks until the caller gives up.
func hang(ctx context.Context, _ string, _ any) error {
	<-ctx.Done()
	return ctx.Err()
}
