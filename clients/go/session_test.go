package tenantauth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const session = "mcp-session-1"

func (r *rig) bind(bind tenantauth.Bind) tenantauth.Binding {
	r.t.Helper()
	binding, err := r.client.BindSession(r.ctx, bind)
	if err != nil {
		r.t.Fatal(err)
	}
	return binding
}

func (r *rig) validateSession(withKey tenantauth.Key, scopes ...string) tenantauth.SessionValidation {
	r.t.Helper()
	validation, err := r.client.ValidateSession(r.ctx, session, withKey, scopes...)
	if err != nil {
		r.t.Fatal(err)
	}
	return validation
}

func TestSessionLifecycle(t *testing.T) {
	r := start(t)
	if unbound := r.validateSession(""); unbound.Verdict != tenantauth.Unbound {
		t.Errorf("before: %v", unbound.Verdict)
	}
	bind := tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour, Sliding: true, Attributes: map[string]string{"client": "cli"}}
	binding := r.bind(bind)
	made := binding.Session
	if binding.Verdict != tenantauth.Valid || binding.AlreadyBound || made.ID != session || made.TenantID != "ten_1" || made.KeyID != "key_1" ||
		!made.Sliding || !made.CreatedAt.Equal(r.clock.Now()) || !made.ExpiresAt.Equal(r.clock.Now().Add(time.Hour)) {
		t.Errorf("%+v", binding)
	}
	// Answers from before the binding were removed from the near cache.
	valid := r.validateSession("", scope)
	if valid.Verdict != tenantauth.Valid || valid.Attributes["client"] != "cli" || valid.Provenance.Source == tenantauth.SourceNear {
		t.Errorf("bound: %+v", valid)
	}
	if again := r.validateSession("", scope); again.Provenance.Source != tenantauth.SourceNear || again.Attributes["client"] != "cli" {
		t.Errorf("again: %+v", again)
	} else {
		// A caller's change must not reach the cached answer.
		again.Attributes["client"] = "changed"
	}
	if again := r.validateSession("", scope); again.Attributes["client"] != "cli" {
		t.Errorf("after a change of the caller's copy: %+v", again)
	}
	if lacking := r.validateSession("", "admin"); lacking.Verdict != tenantauth.InsufficientScope || !slices.Equal(lacking.MissingScopes, []string{"admin"}) {
		t.Errorf("lacking: %+v", lacking)
	}
	if binding = r.bind(bind); !binding.AlreadyBound {
		t.Errorf("%+v", binding)
	}
	for _, bound := range []bool{true, false} {
		if was, err := r.client.UnbindSession(r.ctx, session, "ten_1"); err != nil || was != bound {
			t.Errorf("was bound: %t, %v", was, err)
		}
	}
	if unbound := r.validateSession("", scope); unbound.Verdict != tenantauth.Unbound {
		t.Errorf("after: %v", unbound.Verdict)
	}
}

func TestSessionIsNeverMovedToAnotherTenant(t *testing.T) {
	r := start(t)
	other := fake.Valid("key_2")
	other.TenantId = "ten_2"
	r.service.Put("another tenant's", other)
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
	binding := r.bind(tenantauth.Bind{SessionID: session, Key: "another tenant's", TTL: time.Hour})
	if binding.Verdict != tenantauth.TenantMismatch || binding.Session.ID != "" {
		t.Errorf("%+v", binding)
	}
	if validation := r.validateSession("another tenant's"); validation.Verdict != tenantauth.TenantMismatch {
		t.Errorf("%v", validation.Verdict)
	}
	if validation := r.validateSession(key); validation.Verdict != tenantauth.Valid {
		t.Errorf("%v", validation.Verdict)
	}
}

func TestUnbindOverridesValidationInFlight(t *testing.T) {
	r := start(t, tenantauth.WithTimeout(testTimeout))
	r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
	started, release := make(chan struct{}), make(chan struct{})
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "ValidateSession" {
			close(started)
			<-release
		}
		return nil
	})
	var under sync.WaitGroup
	under.Go(func() { _, _ = r.client.ValidateSession(r.ctx, session, "") })
	<-started
	if _, err := r.client.UnbindSession(r.ctx, session, "ten_1"); err != nil {
		t.Fatal(err)
	}
	close(release)
	under.Wait()
	r.service.Before(nil)
	if validation := r.validateSession(""); validation.Provenance.Source == tenantauth.SourceNear {
		t.Errorf("%v from before the unbinding is cached", validation.Verdict)
	}
}

func TestWatchedSessionIsCachedUntilASubjectChanges(t *testing.T) {
	for name, changed := range map[string]struct {
		scope tenantauthv1.InvalidationScope
		id    string
		drops bool
	}{
		"the session":                      {scopeSession, session, true},
		"the key that opened it":           {scopeKey, "key_1", true},
		"the key that was presented along": {scopeKey, "key_2", true},
		"the tenant":                       {scopeTenant, "ten_1", true},
		"another key":                      {scopeKey, "key_3", false},
		"another session":                  {scopeSession, "another", false},
	} {
		t.Run(name, func(t *testing.T) {
			r, stream := startWatched(t)
			r.service.Put("second", fake.Valid("key_2"))
			r.bind(tenantauth.Bind{SessionID: session, Key: key, TTL: time.Hour})
			if validation := r.validateSession("second"); validation.PresentedKeyID != "key_2" || validation.KeyID != "key_1" {
				t.Fatalf("%+v", validation)
			}
			r.beat(stream, 30*time.Second, 11)
			if validation := r.validateSession("second"); validation.Provenance.Source != tenantauth.SourceNear {
				t.Errorf("from %v", validation.Provenance.Source)
			}
			stream.Invalidate(12, changed.scope, changed.id)
			r.await("the event is handled", func() bool { return r.client.WatchState().Revision == 12 })
			if validation := r.validateSession("second"); (validation.Provenance.Source == tenantauth.SourceDatabase) != changed.drops {
				t.Errorf("after the event from %v", validation.Provenance.Source)
			}
		})
	}
}

func TestNonUTF8TextIsInvalidArgument(t *testing.T) {
	r := start(t)
	for name, call := range map[string]func() error{
		"a session": func() error { _, err := r.client.ValidateSession(r.ctx, "s\xff", ""); return err },
		"an attribute": func() error {
			_, err := r.client.BindSession(r.ctx, tenantauth.Bind{SessionID: session, Key: key, Attributes: map[string]string{"a": "\xff"}})
			return err
		},
		"a tenant": func() error { _, err := r.client.UnbindSession(r.ctx, session, "\xff"); return err },
		"a scope":  func() error { _, err := r.client.ValidateKey(r.ctx, key, "\xff"); return err },
		"a tenant's usage": func() error {
			_, err := r.client.RecordUsage(r.ctx, tenantauth.UsageBatch{Events: []tenantauth.UsageEvent{{TenantID: "\xff", Metric: "calls"}}})
			return err
		},
	} {
		if err := call(); !errors.Is(err, tenantauth.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if binding, err := r.client.BindSession(r.ctx, tenantauth.Bind{SessionID: session, Key: "\xff"}); err != nil || binding.Verdict != tenantauth.Malformed {
		t.Errorf("key of a session: %v, %v", binding.Verdict, err)
	}
}

func TestSessionsAreLoadedPageByPage(t *testing.T) {
	r := start(t)
	var want []string
	for n := range 5 {
		id := fmt.Sprint("session-", n)
		r.bind(tenantauth.Bind{SessionID: id, Key: key, TTL: time.Hour})
		want = slices.Insert(want, 0, id)
	}
	var listed []string
	for session, err := range r.client.ListSessions(r.ctx, "ten_1") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, session.ID)
	}
	if !slices.Equal(listed, want) {
		t.Errorf("%v", listed)
	}
	r.expectCalls("ListSessions", 3)
	for range r.client.ListSessions(r.ctx, "ten_1") {
		break
	}
	r.expectCalls("ListSessions", 4)
	r.service.Before(func(context.Context, string, any) error { return fake.Invalid("tenant_id", "must not be empty") })
	var failures int
	for _, err := range r.client.ListSessions(r.ctx, "") {
		failures++
		toError(t, err)
	}
	if failures != 1 {
		t.Errorf("%d errors", failures)
	}
}

func TestSessionIDMayHave1024Characters(t *testing.T) {
	r := start(t)
	longest := strings.Repeat("s", 1_024)
	if binding := r.bind(tenantauth.Bind{SessionID: longest, Key: key, TTL: time.Hour}); binding.Session.ID != longest {
		t.Errorf("%+v", binding)
	}
	if validation, err := r.client.ValidateSession(r.ctx, longest, key); err != nil || !validation.IsValid() {
		t.Errorf("%v, %v", validation.Verdict, err)
	}
	if was, err := r.client.UnbindSession(r.ctx, longest, "ten_1"); err != nil || !was {
		t.Errorf("%v, %v", was, err)
	}
	_, err := r.client.ValidateSession(r.ctx, longest+"s", key)
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "session_id" {
		t.Errorf("%+v", made)
	}
	r.expectCalls("ValidateSession", 1)
}
