package tenantauth_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// lost is longer than the time after which a silent watch stream counts as dead.
const lost = 4 * time.Second

// expiring returns an answer for a key that expires.
func expiring(at time.Time) *tenantauthv1.ValidateKeyResponse {
	answer := fake.Valid("key_1", scope)
	answer.ExpiresAt = timestamppb.New(at)
	return answer
}

func TestStreamEndsWhenItsKeyExpires(t *testing.T) {
	r, stream := startWatched(t)
	r.service.Put(key, expiring(r.clock.Now().Add(30*time.Second)))
	guarded := r.guard(r.admit())
	r.beat(stream, 29*time.Second, 11)
	r.expectLive("before", guarded)
	r.expectCalls("ValidateKey", 1)
	r.clock.Advance(time.Second)
	r.expectEnd("at the expiry", guarded, "EXPIRED")
	r.expectCalls("ValidateKey", 2)
}

func TestStreamGoesOnIfTheExpiryWasExtended(t *testing.T) {
	r, stream := startWatched(t)
	r.service.Put(key, expiring(r.clock.Now().Add(30*time.Second)))
	guarded := r.guard(r.admit())
	r.beat(stream, 29*time.Second, 11)
	r.service.Put(key, expiring(r.clock.Now().Add(31*time.Second)))
	r.clock.Advance(time.Second)
	stream.Heartbeat(11)
	r.awaitCalls(2)
	r.expectLive("at the earlier expiry", guarded)
	r.beat(stream, 29*time.Second, 11)
	r.expectLive("before the later expiry", guarded)
	r.clock.Advance(time.Second)
	r.expectEnd("at the later expiry", guarded, "EXPIRED")
}

func TestStreamEndsAtTheExpiryIfTheServiceCannotDecide(t *testing.T) {
	r, stream := startWatched(t, tenantauth.WithAttempts(1))
	r.service.Put(key, expiring(r.clock.Now().Add(2*time.Second)))
	guarded := r.guard(r.admit())
	r.beat(stream, time.Second, 11)
	r.fail()
	r.clock.Advance(time.Second)
	r.expectEnd("at the expiry", guarded, "EXPIRED")
}

func TestExpiryIsComparedWithTheTimeOfTheService(t *testing.T) {
	service := fake.Start(t)
	service.ServeWatch()
	r := startWith(t, service)
	// The clock of this program is an hour ahead.
	serverNow := func() time.Time { return r.clock.Now().Add(-time.Hour) }
	service.Now(serverNow)
	stream := r.nextStream()
	stream.Heartbeat(10)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
	r.service.Put(key, expiring(serverNow().Add(30*time.Second)))
	guarded := r.guard(r.admit())
	r.beat(stream, 29*time.Second, 11)
	r.expectLive("before", guarded)
	r.clock.Advance(time.Second)
	r.expectEnd("at the expiry", guarded, "EXPIRED")
}

func TestServiceDecidesOnExpiryWhileItsTimeIsUnknown(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	// Without heartbeats, it is unknown that the clock of this program is an hour ahead.
	r.service.Put(key, expiring(r.clock.Now().Add(-time.Hour)))
	guarded := r.guard(r.admit())
	for calls := 2; calls <= 4; calls++ {
		r.clock.Advance(fake.DefaultCacheableFor)
		r.awaitCalls(calls)
		r.expectLive("valid for the service", guarded)
	}
	r.service.Put(key, fake.Denied(tenantauthv1.Verdict_VERDICT_EXPIRED, "key_1"))
	r.clock.Advance(fake.DefaultCacheableFor)
	r.expectEnd("expired for the service", guarded, "EXPIRED")
}

func TestSessionStreamEndsWhenTheSessionExpires(t *testing.T) {
	r, stream := startWatched(t)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: 5 * time.Second})
	principal, err := r.client.RequireSession(r.ctx, session, key)
	if err != nil {
		t.Fatal(err)
	}
	guarded := r.guard(principal)
	r.beat(stream, 4*time.Second, 11)
	r.expectLive("before", guarded)
	r.clock.Advance(time.Second)
	r.expectEnd("at the expiry", guarded, "SESSION_EXPIRED")
}

func TestStreamsAreValidatedPeriodicallyWhileTheWatchStreamIsDown(t *testing.T) {
	for name, options := range map[string][]tenantauth.Option{
		"without the watch stream": {tenantauth.WithoutWatch()}, "without the near cache": {tenantauth.WithoutNearCache()},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options...)
			principal := r.admit()
			guarded := r.guard(principal)
			for range 100 {
				r.guard(principal)
			}
			for calls := 2; calls <= 4; calls++ {
				r.clock.Advance(fake.DefaultCacheableFor - 1)
				r.expectCalls("ValidateKey", calls-1)
				r.clock.Advance(1)
				r.awaitCalls(calls)
			}
			r.expectLive("valid", guarded)
			r.service.Put(key, fake.Denied(revoked, "key_1"))
			r.clock.Advance(fake.DefaultCacheableFor)
			r.expectEnd("revoked", guarded, "REVOKED")
			r.expectCalls("ValidateKey", 5)
		})
	}
}

func TestPeriodOfValidationsIsAtLeastASecond(t *testing.T) {
	for name, option := range map[string]tenantauth.Option{"watch stream": tenantauth.WithoutWatch(), "near cache": tenantauth.WithoutNearCache()} {
		t.Run("without the "+name, func(t *testing.T) {
			r := start(t, option)
			answer := fake.Valid("key_1", scope)
			answer.Provenance.CacheableFor = durationpb.New(10 * time.Millisecond)
			r.service.Put(key, answer)
			r.guard(r.admit())
			for calls := 2; calls <= 3; calls++ {
				r.clock.Advance(999 * time.Millisecond)
				r.expectCalls("ValidateKey", calls-1)
				r.clock.Advance(time.Millisecond)
				r.awaitCalls(calls)
			}
		})
	}
}

func TestSilentWatchStreamStartsPeriodicValidations(t *testing.T) {
	r, stream := startWatched(t)
	guarded := r.guard(r.admit())
	r.beat(stream, 30*time.Second, 11)
	r.expectCalls("ValidateKey", 1)
	r.service.Put(key, fake.Denied(revoked, "key_1"))
	// In small steps, so that a PING of the silent connection is answered in time.
	r.await("the end", func() bool {
		r.clock.Advance(10 * time.Millisecond)
		return guarded.Err() != nil
	})
	r.expectEnd("revoked while the stream was silent", guarded, "REVOKED")
}

func TestResumedWatchStreamEndsPeriodicValidations(t *testing.T) {
	r, stream := startWatched(t)
	guarded := r.guard(r.admit())
	r.clock.Advance(lost)
	r.await("the stream is reopened", func() bool {
		select {
		case stream = <-r.service.Streams():
			return true
		default:
			r.clock.Advance(10 * time.Millisecond)
			return false
		}
	})
	stream.Heartbeat(10)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
	// The changes before the stream was resumed may be missing: one more validation is needed.
	r.beat(stream, fake.DefaultCacheableFor+time.Second, 10)
	r.awaitCalls(2)
	r.beat(stream, 30*time.Second, 10)
	r.expectCalls("ValidateKey", 2)
	r.expectLive("on the resumed stream", guarded)
}

func TestUndecidedValidationsAreToleratedForTenSeconds(t *testing.T) {
	for name, test := range map[string]struct {
		options   []tenantauth.GuardOption
		tolerated time.Duration
	}{
		"by default": {nil, 10 * time.Second}, "shorter": {[]tenantauth.GuardOption{tenantauth.WithGuardTolerance(3 * time.Second)}, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1), unhedged)
			guarded := r.guard(r.admit(), test.options...)
			r.fail()
			r.clock.Advance(fake.DefaultCacheableFor)
			r.awaitCalls(2)
			for passed := time.Second; passed < test.tolerated; passed += time.Second {
				r.expectLive("within the tolerance", guarded)
				calls := r.service.Calls("ValidateKey")
				r.clock.Advance(time.Second)
				r.awaitCalls(calls + 1)
			}
			r.expectLive("just before its end", guarded)
			r.clock.Advance(time.Second)
			r.expectEnd("after the tolerance", guarded, "UNDECIDED")
		})
	}
}

func TestLaterStreamHasAToleranceOfItsOwn(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1), unhedged)
	principal := r.admit()
	earlier := r.guard(principal)
	r.fail()
	pass := func(d time.Duration) {
		for range d / time.Second {
			calls := r.service.Calls("ValidateKey")
			r.clock.Advance(time.Second)
			r.awaitCalls(calls + 1)
		}
	}
	r.clock.Advance(fake.DefaultCacheableFor - time.Second)
	pass(6 * time.Second)
	calls := r.service.Calls("ValidateKey")
	later := r.guard(principal)
	r.awaitCalls(calls + 1)
	pass(4 * time.Second)
	r.clock.Advance(time.Second)
	r.expectEnd("the earlier one, after ten seconds", earlier, "UNDECIDED")
	r.awaitCalls(calls + 6)
	r.expectLive("the later one, after five seconds", later)
	pass(4 * time.Second)
	r.expectLive("the later one, after nine seconds", later)
	r.clock.Advance(time.Second)
	r.expectEnd("the later one, after ten seconds", later, "UNDECIDED")
}

func TestDecisionEndsTheTolerance(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1), unhedged)
	guarded := r.guard(r.admit())
	for range 3 {
		r.fail()
		calls := r.service.Calls("ValidateKey")
		r.clock.Advance(fake.DefaultCacheableFor)
		r.awaitCalls(calls + 1)
		r.service.Before(nil)
		r.clock.Advance(time.Second)
		r.awaitCalls(calls + 2)
	}
	r.expectLive("with errors for 18 s in between", guarded)
}

func TestHungValidationIsToleratedForTenSecondsToo(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithTimeout(testTimeout))
	guarded := r.guard(r.admit())
	r.service.Before(hang)
	r.clock.Advance(fake.DefaultCacheableFor)
	r.await("the call", func() bool { return r.service.Calls("ValidateKey") == 2 })
	r.clock.Advance(9 * time.Second)
	r.expectLive("within the tolerance", guarded)
	r.clock.Advance(time.Second)
	r.expectEnd("after the tolerance", guarded, "UNDECIDED")
}
