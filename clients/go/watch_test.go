package tenantauth_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const (
	scopeKey     = tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY
	scopeTenant  = tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_TENANT
	scopeSession = tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_SESSION
)

// firstBackoff is the maximum delay before a broken stream is reopened.
const firstBackoff = 200 * time.Millisecond

func TestWatchedAnswerIsCachedForAMinute(t *testing.T) {
	r, stream := startWatched(t)
	ask := func() tenantauth.Source {
		validation, err := r.client.ValidateKey(r.ctx, "ta_unknown_key")
		if err != nil || validation.Verdict != tenantauth.Unknown {
			t.Fatalf("%v, %v", validation.Verdict, err)
		}
		return validation.Provenance.Source
	}
	r.validate()
	ask()
	r.beat(stream, 59*time.Second, 11)
	r.expect("within the minute", tenantauth.Valid, tenantauth.SourceNear)
	if source := ask(); source != tenantauth.SourceDatabase {
		t.Errorf("unknown key answered from %v: it may exist by now", source)
	}
	r.beat(stream, time.Second, 11)
	r.expect("after the minute", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestDenialsHaveTheWatchedLifetimeToo(t *testing.T) {
	// This includes verdicts that this version does not know: the service sets their lifetime.
	for _, verdict := range []tenantauth.Verdict{tenantauth.Revoked, tenantauth.Expired, tenantauth.TenantSuspended, 42} {
		t.Run(verdict.String(), func(t *testing.T) {
			r, stream := startWatched(t)
			r.service.Put(key, fake.Denied(tenantauthv1.Verdict(verdict), "key_1"))
			r.validate()
			r.beat(stream, 30*time.Second, 11)
			r.expect("long after", verdict, tenantauth.SourceNear)
		})
	}
}

func TestInvalidationIsApplied(t *testing.T) {
	for name, about := range map[string]struct {
		scope tenantauthv1.InvalidationScope
		id    string
		drops bool
	}{
		"its key":        {scopeKey, "key_1", true},
		"its tenant":     {scopeTenant, "ten_1", true},
		"another key":    {scopeKey, "key_2", false},
		"another tenant": {scopeTenant, "ten_2", false},
		"unknown scope":  {99, "any", true},
	} {
		t.Run(name, func(t *testing.T) {
			r, stream := startWatched(t)
			r.validate()
			stream.Invalidate(12, about.scope, about.id)
			r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 12 })
			source := tenantauth.SourceNear
			if about.drops {
				source = tenantauth.SourceDatabase
			}
			r.expect("after the event", tenantauth.Valid, source)
		})
	}
}

func TestBrokenStreamIsResumedWithoutLoss(t *testing.T) {
	r, stream := startWatched(t)
	r.validate()
	r.beat(stream, 10*time.Second, 15)
	stream.End(status.Error(codes.Unavailable, "the replica goes"))
	r.advance(firstBackoff)
	stream = r.nextStream()
	if stream.ResumeAfter != 15 {
		t.Errorf("resumed after %d", stream.ResumeAfter)
	}
	r.expect("between two streams", tenantauth.Valid, tenantauth.SourceNear)
	stream.Heartbeat(16)
	r.await("the event is applied", func() bool { return r.client.WatchState().Revision == 16 })
	r.expect("on the resumed stream", tenantauth.Valid, tenantauth.SourceNear)
}

func TestStreamResumedTooLateStartsANewEpoch(t *testing.T) {
	r, stream := startWatched(t)
	r.validate()
	r.beat(stream, 10*time.Second, 15)
	stream.End(status.Error(codes.Unavailable, "the replica goes"))
	r.advance(firstBackoff)
	stream = r.nextStream()
	r.clock.Advance(3 * time.Second)
	<-stream.Ended()
	r.advance(2 * firstBackoff)
	stream = r.nextStream()
	stream.Heartbeat(16)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
	r.expect("after the silence", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestSilentStreamIsReopened(t *testing.T) {
	r, stream := startWatched(t)
	r.clock.Advance(3 * time.Second)
	select {
	case <-stream.Ended():
	case <-r.ctx.Done():
		t.Fatal("the silent stream was not closed")
	}
	r.advance(firstBackoff)
	if stream = r.nextStream(); stream.ResumeAfter != 10 {
		t.Errorf("resumed after %d", stream.ResumeAfter)
	}
}

func TestStreamWithoutResumeRevisionStartsANewEpoch(t *testing.T) {
	service := fake.Start(t)
	service.ServeWatch()
	r := startWith(t, service)
	stream := r.nextStream()
	// The database is empty: there is no revision to resume from yet.
	stream.Heartbeat(0)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
	r.validate()
	r.beat(stream, 6*time.Second, 0)
	r.expect("on the stream", tenantauth.Valid, tenantauth.SourceNear)
	stream.End(status.Error(codes.Unavailable, "the replica goes"))
	r.advance(firstBackoff)
	stream = r.nextStream()
	stream.Heartbeat(1)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
	r.expect("on the next stream", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestStartOverClearsTheCache(t *testing.T) {
	r, stream := startWatched(t)
	r.validate()
	stream.StartOver(3)
	r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 3 })
	if !r.client.WatchState().Live {
		t.Error("the stream is still live after START_OVER")
	}
	r.expect("after starting over", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestSlowSubscriberStartsOver(t *testing.T) {
	r, stream := startWatched(t)
	r.validate()
	stream.End(status.Error(codes.ResourceExhausted, "too slow"))
	r.advance(firstBackoff)
	if stream = r.nextStream(); stream.ResumeAfter != 0 {
		t.Errorf("resumed after %d", stream.ResumeAfter)
	}
	r.expect("after the disconnect", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestUnimplementedStreamIsRetriedAfterAMinute(t *testing.T) {
	r := start(t)
	r.await("the first attempt", func() bool { return r.service.Calls("Watch") == 1 })
	r.validate()
	if err := r.clock.AwaitTimer(r.ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.await("the wait is the only timer", func() bool { return r.clock.Farthest() == time.Minute })
	r.clock.Advance(4 * time.Second)
	r.expect("within the allowed time", tenantauth.Valid, tenantauth.SourceNear)
	r.clock.Advance(time.Second)
	r.expect("after the allowed time", tenantauth.Valid, tenantauth.SourceDatabase)
	r.service.ServeWatch()
	r.expectCalls("Watch", 1)
	r.clock.Advance(55 * time.Second)
	r.nextStream().Heartbeat(1)
	r.await("the stream is live", func() bool { return r.client.WatchState().Live })
}

func TestFailedPreconditionIsRetriedAfterAMinute(t *testing.T) {
	r, stream := startWatched(t)
	stream.End(status.Error(codes.FailedPrecondition, "no feed"))
	r.await("the retry timer of a minute is set", func() bool { return r.clock.Farthest() == time.Minute })
	r.expectCalls("Watch", 1)
	if r.client.WatchState().Live {
		t.Error("the stream is reported as live")
	}
}
