package tenantauth_test

import (
	"context"
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestOwnChangesAreVisibleImmediately(t *testing.T) {
	// With a manual clock and without the stream, only the client's own change can invalidate the near cache.
	client, real := connect(t, tenantauth.WithClock(fakeclock.New()), tenantauth.WithoutWatch())
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	key := tenantauth.Key(real.Key)
	expect := func(what string, want tenantauth.Verdict) tenantauth.Validation {
		t.Helper()
		validation, err := client.ValidateKey(t.Context(), key)
		if err != nil || validation.Verdict != want {
			t.Errorf("%s: %v, %v", what, validation.Verdict, err)
		}
		return validation
	}
	session := func(what string, want tenantauth.Verdict) {
		t.Helper()
		validation, err := client.ValidateSession(t.Context(), "session-1", key)
		if err != nil || validation.Verdict != want {
			t.Errorf("%s: %v, %v", what, validation.Verdict, err)
		}
	}
	bind := func() {
		t.Helper()
		if _, err := client.BindSession(t.Context(), tenantauth.Bind{SessionID: "session-1", Key: key, TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	change := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	imported := func(want tenantauth.Verdict) {
		t.Helper()
		if validation, err := client.ValidateKey(t.Context(), shared); err != nil || validation.Verdict != want {
			t.Errorf("imported key: %v, %v", validation.Verdict, err)
		}
	}
	imported(tenantauth.Unknown)
	digest := sha256.Sum256([]byte(shared))
	_, err := admin.ImportKeys(t.Context(), &tenantauthv1.ImportKeysRequest{Keys: []*tenantauthv1.ImportKey{{TenantId: "ten_demo", Name: "shared", Sha256: digest[:]}}})
	change("import", err)
	imported(tenantauth.Valid)
	keyID := expect("at first", tenantauth.Valid).KeyID
	session("before it is bound", tenantauth.Unbound)
	bind()
	session("bound", tenantauth.Valid)
	_, err = client.UnbindSession(t.Context(), "session-1", "ten_demo")
	change("unbind", err)
	session("unbound", tenantauth.Unbound)
	bind()
	session("bound again", tenantauth.Valid)
	_, err = tenantauthv1.NewSessionServiceClient(client.Raw()).UnbindSession(t.Context(), &tenantauthv1.UnbindSessionRequest{SessionId: "session-1", TenantId: "ten_demo"})
	change("unbind by the generated client", err)
	session("unbound again", tenantauth.Unbound)
	bind()
	_, err = admin.SuspendTenant(t.Context(), &tenantauthv1.SuspendTenantRequest{TenantId: "ten_demo", Reason: "a test"})
	change("suspend", err)
	expect("suspended", tenantauth.TenantSuspended)
	session("of a suspended tenant", tenantauth.TenantSuspended)
	_, err = admin.ResumeTenant(t.Context(), &tenantauthv1.ResumeTenantRequest{TenantId: "ten_demo"})
	change("resume", err)
	expect("resumed", tenantauth.Valid)
	_, err = admin.RotateKey(t.Context(), &tenantauthv1.RotateKeyRequest{KeyId: keyID})
	change("rotate", err)
	if validation := expect("rotated", tenantauth.Valid); validation.ExpiresAt.IsZero() {
		t.Error("the near cache does not have the expiry that the rotation gave to the key")
	}
	_, err = admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: keyID, Reason: "a test"})
	change("revoke", err)
	expect("revoked", tenantauth.Revoked)
}

func TestFailedChangeInvalidatesToo(t *testing.T) {
	r := start(t)
	r.validate()
	// The fake does not implement AdminService, so the call fails like one whose response was lost.
	admin := tenantauthv1.NewAdminServiceClient(r.client.Raw())
	if _, err := admin.RevokeKey(r.ctx, &tenantauthv1.RevokeKeyRequest{KeyId: "key_1"}); err == nil {
		t.Fatal("want an error")
	}
	r.expect("after the change", tenantauth.Valid, tenantauth.SourceDatabase)
	_, _ = admin.RevokeKey(r.ctx, &tenantauthv1.RevokeKeyRequest{KeyId: "key_2"})
	r.expect("after a change of another key", tenantauth.Valid, tenantauth.SourceNear)
	_, _ = admin.ListKeys(r.ctx, &tenantauthv1.ListKeysRequest{TenantId: "ten_1"})
	r.expect("after reading", tenantauth.Valid, tenantauth.SourceNear)
	_, _ = admin.ExplainKey(r.ctx, &tenantauthv1.ExplainKeyRequest{KeyId: "key_1"})
	r.expect("after explaining the key", tenantauth.Valid, tenantauth.SourceNear)
	subject := &tenantauthv1.LimitSubject{Subject: &tenantauthv1.LimitSubject_KeyId{KeyId: "key_1"}}
	_, _ = admin.SetLimit(r.ctx, &tenantauthv1.SetLimitRequest{Limit: &tenantauthv1.Limit{Subject: subject}})
	_, _ = admin.AddCredits(r.ctx, &tenantauthv1.AddCreditsRequest{Subject: subject})
	_, _ = admin.DeleteLimit(r.ctx, &tenantauthv1.DeleteLimitRequest{Subject: subject})
	r.expect("after changes of a limit of the key", tenantauth.Valid, tenantauth.SourceNear)
	_, _ = admin.UpdateKey(r.ctx, &tenantauthv1.UpdateKeyRequest{KeyId: "key_1"})
	r.expect("after an update of the key", tenantauth.Valid, tenantauth.SourceDatabase)
	_, _ = admin.UpdateTenant(r.ctx, &tenantauthv1.UpdateTenantRequest{TenantId: "ten_2"})
	r.expect("after an update of another tenant", tenantauth.Valid, tenantauth.SourceNear)
	_, _ = admin.UpdateTenant(r.ctx, &tenantauthv1.UpdateTenantRequest{TenantId: "ten_1"})
	r.expect("after an update of the tenant", tenantauth.Valid, tenantauth.SourceDatabase)
	_, _ = admin.DeleteTenant(r.ctx, &tenantauthv1.DeleteTenantRequest{TenantId: "ten_1"})
	r.expect("after a deletion of the tenant", tenantauth.Valid, tenantauth.SourceDatabase)
	_, _ = admin.ReportLeak(r.ctx, &tenantauthv1.ReportLeakRequest{Plaintext: "another key"})
	r.expect("after a report, which names no subject", tenantauth.Valid, tenantauth.SourceDatabase)
	_, _ = tenantauthv1.NewInfoServiceClient(r.client.Raw()).WaitForRevision(r.ctx, &tenantauthv1.WaitForRevisionRequest{})
	r.expect("after waiting for a revision", tenantauth.Valid, tenantauth.SourceNear)
	_, _ = admin.AcceptDatabase(r.ctx, &tenantauthv1.AcceptDatabaseRequest{})
	r.expect("after a change of unknown subjects", tenantauth.Valid, tenantauth.SourceDatabase)
}

func TestAnswerInFlightDuringOwnChangeIsNotCached(t *testing.T) {
	r := start(t, tenantauth.WithTimeout(testTimeout))
	started, release := make(chan struct{}), make(chan struct{})
	r.service.Before(func(_ context.Context, method string, _ any) error {
		if method == "ValidateKey" {
			close(started)
			<-release
		}
		return nil
	})
	var under sync.WaitGroup
	under.Go(func() { _, _ = r.client.ValidateKey(r.ctx, key) })
	<-started
	admin := tenantauthv1.NewAdminServiceClient(r.client.Raw())
	_, _ = admin.RevokeKey(r.ctx, &tenantauthv1.RevokeKeyRequest{KeyId: "key_1"})
	close(release)
	under.Wait()
	r.service.Before(nil)
	r.service.Put(key, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1"))
	r.expect("after the change", tenantauth.Revoked, tenantauth.SourceDatabase)
}
