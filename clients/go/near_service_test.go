package tenantauth_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// These tests check the invalidations of the real service. One client caches, another one makes changes.

type remembering struct {
	t     *testing.T
	clock *fakeclock.Clock
	// client caches answers and uses a manual clock.
	client *tenantauth.Client
	admin  tenantauthv1.AdminServiceClient
	other  *tenantauth.Client
	opener tenantauth.Key
}

func remember(t *testing.T) *remembering {
	t.Helper()
	real := service.Start(t)
	r := &remembering{t: t, clock: fakeclock.New(), opener: tenantauth.Key(real.Key)}
	r.client = connectTo(t, []string{real.Address}, tenantauth.WithClock(r.clock), tenantauth.WithTimeout(testTimeout))
	r.other = connectTo(t, []string{real.Address}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	r.admin = tenantauthv1.NewAdminServiceClient(r.other.Raw())
	eventually(t, func() bool { return r.client.WatchState().Live })
	bind := tenantauth.Bind{SessionID: "session-1", Key: r.opener, TTL: time.Hour}
	if _, err := r.other.BindSession(t.Context(), bind); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *remembering) issue(name string) (key tenantauth.Key, keyID string) {
	r.t.Helper()
	request := &tenantauthv1.IssueKeyRequest{
		TenantId: "ten_demo", Name: name, Scopes: []string{"demo:read"}, ExpiresAt: timestamppb.New(time.Now().Add(24 * time.Hour)),
	}
	issued, err := r.admin.IssueKey(r.t.Context(), request)
	if err != nil {
		r.t.Fatal(err)
	}
	return tenantauth.Key(issued.GetPlaintext()), issued.GetKey().GetKeyId()
}

func (r *remembering) session(key tenantauth.Key) tenantauth.SessionValidation {
	r.t.Helper()
	validation, err := r.client.ValidateSession(r.t.Context(), "session-1", key)
	if err != nil {
		r.t.Fatal(err)
	}
	return validation
}

func TestChangeOfEachSubjectInvalidatesSession(t *testing.T) {
	for name, test := range map[string]struct {
		change func(r *remembering, presentedID string) error
		want   tenantauth.Verdict
	}{
		"the key that was presented along is revoked": {func(r *remembering, presentedID string) error {
			_, err := r.admin.RevokeKey(r.t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: presentedID, Reason: "a test"})
			return err
		}, tenantauth.Revoked},
		"the key that opened it is revoked": {func(r *remembering, _ string) error {
			opened, err := r.other.ValidateKey(r.t.Context(), r.opener)
			if err == nil {
				_, err = r.admin.RevokeKey(r.t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: opened.KeyID, Reason: "a test"})
			}
			return err
		}, tenantauth.Revoked},
		"the session is unbound": {func(r *remembering, _ string) error {
			_, err := r.other.UnbindSession(r.t.Context(), "session-1", "ten_demo")
			return err
		}, tenantauth.Unbound},
		"the tenant is suspended": {func(r *remembering, _ string) error {
			_, err := r.admin.SuspendTenant(r.t.Context(), &tenantauthv1.SuspendTenantRequest{TenantId: "ten_demo", Reason: "a test"})
			return err
		}, tenantauth.TenantSuspended},
	} {
		t.Run(name, func(t *testing.T) {
			r := remember(t)
			presented, presentedID := r.issue("second")
			if validation := r.session(presented); !validation.IsValid() || validation.PresentedKeyID != presentedID {
				t.Fatalf("%+v", validation)
			}
			if validation := r.session(presented); validation.Provenance.Source != tenantauth.SourceNear {
				t.Errorf("the answer is not cached: %+v", validation.Provenance)
			}
			if err := test.change(r, presentedID); err != nil {
				t.Fatal(err)
			}
			// Only the stream can invalidate the answer: the clock does not advance.
			eventually(t, func() bool { return r.session(presented).Verdict == test.want })
		})
	}
}
