package tenantauth_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestPrincipalIsOutdatedByAChange(t *testing.T) {
	for name, change := range map[string]struct {
		revision int64
		scope    tenantauthv1.InvalidationScope
		id       string
		outdates bool
	}{
		"its key":               {12, scopeKey, "key_1", true},
		"its tenant":            {12, scopeTenant, "ten_1", true},
		"its key, before":       {11, scopeKey, "key_1", false},
		"its tenant, before":    {10, scopeTenant, "ten_1", false},
		"another key":           {12, scopeKey, "key_2", false},
		"another tenant":        {12, scopeTenant, "ten_2", false},
		"a key named like it":   {12, scopeKey, "ten_1", false},
		"a session of its name": {12, scopeSession, "key_1", false},
	} {
		r, stream := startPrincipalWatched(t)
		if err := r.verify(r.signer, nil); err != nil {
			t.Fatal(err)
		}
		stream.Invalidate(change.revision, change.scope, change.id)
		stream.Heartbeat(13)
		r.await("the events are handled", func() bool { return r.client.WatchState().Revision == 13 })
		err := r.verify(r.signer, nil)
		if errors.Is(err, tenantauth.ErrOutdatedPrincipal) != change.outdates || errors.Is(err, tenantauth.ErrInvalidPrincipal) || err != nil && !change.outdates {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.verify(r.signer, nil, "missing:scope"); errors.Is(err, tenantauth.ErrOutdatedPrincipal) != change.outdates {
			t.Errorf("%s: the scopes may have changed too: %v", name, err)
		}
		if err := r.verify(r.signer, claims{"rev": 12}); err != nil {
			t.Errorf("%s: a token from after the change: %v", name, err)
		}
	}
}

func TestStartOverForgetsWhatOutdatesPrincipals(t *testing.T) {
	r, stream := startPrincipalWatched(t)
	stream.Invalidate(12, scopeKey, "key_1")
	stream.StartOver(13)
	r.await("the events are handled", func() bool { return r.client.WatchState().Revision == 13 })
	if err := r.verify(r.signer, nil); err != nil {
		t.Errorf("%v", err)
	}
}

func TestPrincipalIsHonouredWhileTheStreamIsDown(t *testing.T) {
	r, stream := startPrincipalWatched(t)
	stream.Invalidate(12, scopeKey, "key_1")
	r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 12 })
	stream.End(status.Error(codes.Unavailable, "the replica goes"))
	token := r.signer.sign(t, claims{"key_id": "key_2"}.payload(t, r.clock.Now()))
	r.clock.Advance(64 * time.Second)
	if r.client.WatchState().Live {
		t.Error("the stream is live")
	}
	if _, err := r.verifier.Verify(r.ctx, token); err != nil {
		t.Errorf("%v", err)
	}
	if err := r.verify(r.signer, nil); !errors.Is(err, tenantauth.ErrOutdatedPrincipal) {
		t.Errorf("changed before: %v", err)
	}
	r.clock.Advance(time.Second)
	if _, err := r.verifier.Verify(r.ctx, token); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
		t.Errorf("after it has expired: %v", err)
	}
}

func TestPrincipalIsVerifiedWithoutNearCache(t *testing.T) {
	r := startPrincipal(t, tenantauth.WithoutNearCache())
	if err := r.verify(r.signer, nil); err != nil {
		t.Errorf("%v", err)
	}
}
