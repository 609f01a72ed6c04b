package tenantauth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fakeclock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// These tests use the real service.

func connect(t *testing.T, options ...tenantauth.Option) (*tenantauth.Client, *service.Service) {
	t.Helper()
	real := service.Start(t)
	client, err := tenantauth.New(real.Address, append([]tenantauth.Option{tenantauth.WithTimeout(testTimeout)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, real
}

func TestRealServiceValidatesKeys(t *testing.T) {
	// With a manual clock, answers stay cached on slow machines too.
	client, real := connect(t, tenantauth.WithClock(fakeclock.New()))
	validation, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key), "demo:read")
	if err != nil || !validation.IsValid() || validation.TenantID != "ten_demo" || validation.TenantName != "Demo" {
		t.Fatalf("%+v, %v", validation, err)
	}
	if principal, err := validation.Principal(); err != nil || !principal.Has("demo:write") {
		t.Fatalf("%+v, %v", principal, err)
	}
	near, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key), "demo:delete")
	if err != nil || near.Verdict != tenantauth.InsufficientScope || near.Provenance.Source != tenantauth.SourceNear || near.MissingScopes[0] != "demo:delete" {
		t.Errorf("%+v, %v", near, err)
	}
	last := real.Key[len(real.Key)-1]
	other := byte('a')
	if last == other {
		other = 'b'
	}
	malformed, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key[:len(real.Key)-1]+string(other)))
	if err != nil || malformed.Verdict != tenantauth.Malformed {
		t.Errorf("%+v, %v", malformed, err)
	}
	unknown, err := client.ValidateKey(t.Context(), "unknown-key")
	if err != nil || unknown.Verdict != tenantauth.Unknown {
		t.Errorf("%+v, %v", unknown, err)
	}
	_, err = client.ValidateKey(t.Context(), "")
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "key" || made.RequestID == "" {
		t.Errorf("%+v", made)
	}
	_, err = client.ValidateKey(t.Context(), tenantauth.Key(real.Key), "No Scope")
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || len(made.Violations) != 1 {
		t.Errorf("%+v", made)
	}
}

func TestOverlongInputIsNotReportedAsOverload(t *testing.T) {
	client, real := connect(t)
	long := strings.Repeat("a", 5<<20)
	if validation, err := client.ValidateKey(t.Context(), tenantauth.Key(long)); err != nil || validation.Verdict != tenantauth.Malformed {
		t.Errorf("%v, %v", validation.Verdict, err)
	}
	if validation, err := client.ValidateSession(t.Context(), "s", tenantauth.Key(long)); err != nil || validation.Verdict != tenantauth.Malformed {
		t.Errorf("%v, %v", validation.Verdict, err)
	}
	if binding, err := client.BindSession(t.Context(), tenantauth.Bind{SessionID: "s", Key: tenantauth.Key(long), TTL: time.Minute}); err != nil || binding.Verdict != tenantauth.Malformed {
		t.Errorf("%v, %v", binding.Verdict, err)
	}
	_, asked := client.ValidateSession(t.Context(), long, "")
	_, bound := client.BindSession(t.Context(), tenantauth.Bind{SessionID: long, Key: tenantauth.Key(real.Key), TTL: time.Minute})
	_, ended := client.UnbindSession(t.Context(), long, "ten_demo")
	for what, err := range map[string]error{"asked about": asked, "bound": bound, "ended": ended} {
		if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "session_id" {
			t.Errorf("%s: %+v", what, made)
		}
	}
}

func TestRealServiceValidatesBatches(t *testing.T) {
	client, real := connect(t)
	outcomes, err := client.ValidateKeys(t.Context(), []tenantauth.KeyQuery{
		{Key: "unknown-key"}, {Key: tenantauth.Key(real.Key), Scopes: []string{"demo:delete"}}, {Key: tenantauth.Key(real.Key)},
		{Key: ""}, {Key: tenantauth.Key(strings.Repeat("a", 5<<20))}, {Key: tenantauth.Key(real.Key), Scopes: []string{"No Scope"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for index, verdict := range []tenantauth.Verdict{tenantauth.Unknown, tenantauth.InsufficientScope, tenantauth.Valid} {
		if outcomes[index].Verdict != verdict || outcomes[index].Err != nil {
			t.Errorf("%d: %+v", index, outcomes[index])
		}
	}
	// An invalid entry does not affect the others.
	for index, field := range map[int]string{3: "key", 4: "key", 5: "required_scopes[0]"} {
		if made := toError(t, outcomes[index].Err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != field {
			t.Errorf("%d: %+v", index, made)
		}
	}
	_, err = client.ValidateKeys(t.Context(), nil)
	if made := toError(t, err); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != "requests" {
		t.Errorf("%+v", made)
	}
}

func TestRevocationIsVisibleWithoutNearCache(t *testing.T) {
	client, real := connect(t, tenantauth.WithoutNearCache())
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{
		TenantId: "ten_demo", Name: "short-lived", Scopes: []string{"demo:read"}, ExpiresAt: timestamppb.New(time.Now().Add(time.Hour)),
	})
	if err != nil {
		t.Fatal(err)
	}
	plaintext := tenantauth.Key(issued.GetPlaintext())
	validation, err := client.ValidateKey(t.Context(), plaintext)
	if err != nil || !validation.IsValid() || validation.KeyID != issued.GetKey().GetKeyId() || validation.ExpiresAt.IsZero() {
		t.Errorf("%+v, %v", validation, err)
	}
	if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: validation.KeyID, Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	if revoked, err := client.ValidateKey(t.Context(), plaintext); err != nil || revoked.Verdict != tenantauth.Revoked {
		t.Errorf("%+v, %v", revoked, err)
	}
	if other, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key)); err != nil || !other.IsValid() {
		t.Errorf("%+v, %v", other, err)
	}
}

func TestRealServiceReturnsServerInfo(t *testing.T) {
	client, _ := connect(t)
	info, err := client.ServerInfo(t.Context())
	if err != nil || info.Version == "" || info.Database != tenantauthv1.DatabaseKind_DATABASE_KIND_EMBEDDED || info.Now.IsZero() || info.SchemaVersion == 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestRealServiceManagesSessions(t *testing.T) {
	client, real := connect(t)
	bind := tenantauth.Bind{SessionID: "session-1", Key: tenantauth.Key(real.Key), TTL: time.Hour, Attributes: map[string]string{"client": "cli"}}
	for _, already := range []bool{false, true} {
		binding, err := client.BindSession(t.Context(), bind)
		if err != nil || binding.Verdict != tenantauth.Valid || binding.AlreadyBound != already || binding.Session.TenantID != "ten_demo" {
			t.Fatalf("%+v, %v", binding, err)
		}
	}
	validation, err := client.ValidateSession(t.Context(), "session-1", tenantauth.Key(real.Key), "demo:read")
	if err != nil || !validation.IsValid() || validation.TenantID != "ten_demo" || validation.Attributes["client"] != "cli" {
		t.Errorf("%+v, %v", validation, err)
	}
	var listed []string
	for session, err := range client.ListSessions(t.Context(), "ten_demo") {
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, session.ID)
	}
	if len(listed) != 1 || listed[0] != "session-1" {
		t.Errorf("%v", listed)
	}
	for _, was := range []bool{true, false} {
		if wasBound, err := client.UnbindSession(t.Context(), "session-1", "ten_demo"); err != nil || wasBound != was {
			t.Errorf("%v, %v", wasBound, err)
		}
	}
	if ended, err := client.ValidateSession(t.Context(), "session-1", ""); err != nil || ended.Verdict != tenantauth.Unbound {
		t.Errorf("%+v, %v", ended, err)
	}
}

func TestRealServiceCountsUsageOnce(t *testing.T) {
	client, _ := connect(t)
	batch := tenantauth.UsageBatch{RequestID: "request-1", Events: []tenantauth.UsageEvent{
		{TenantID: "ten_demo", Metric: "api.calls", Quantity: 3}, {TenantID: "nobody", Metric: "api.calls", Quantity: 1},
	}}
	for _, already := range []bool{false, true} {
		receipt, err := client.RecordUsage(t.Context(), batch)
		if err != nil || receipt.Accepted != 1 || receipt.AlreadyRecorded != already || len(receipt.Rejected) != 1 || receipt.Rejected[0].Index != 1 {
			t.Fatalf("%+v, %v", receipt, err)
		}
	}
	recorder := newRecorder(t, client)
	if err := recorder.Record(tenantauth.UsageEvent{TenantID: "ten_demo", Metric: "api.calls", Quantity: 4}); err != nil {
		t.Fatal(err)
	}
	if unsent := recorder.Close(t.Context()); len(unsent) != 0 {
		t.Fatalf("%v", unsent)
	}
	query := tenantauth.UsageQuery{
		TenantID: "ten_demo", Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(2 * time.Hour), Bucket: tenantauth.Month,
	}
	var total int64
	for sum, err := range client.QueryUsage(t.Context(), query) {
		if err != nil {
			t.Fatal(err)
		}
		total += sum.Quantity
	}
	if total != 7 {
		t.Errorf("%d", total)
	}
}

func TestInvalidEventsDoNotAffectTheirBatch(t *testing.T) {
	client, _ := connect(t)
	var rejected []string
	recorder := newRecorder(t, client, tenantauth.WithOnRejected(func(event tenantauth.UsageEvent, err error) {
		rejected = append(rejected, event.TenantID)
	}))
	good := tenantauth.UsageEvent{TenantID: "ten_demo", Metric: "api.calls", Quantity: 1}
	for number := range 1_200 {
		event := good
		switch number {
		case 100:
			event.TenantID = "nobody"
		case 700:
			event.TenantID, event.At = "ten_demo", time.Date(1970, time.January, 1, 0, 0, 0, 0, time.UTC)
		}
		if err := recorder.Record(event); err != nil {
			t.Fatal(err)
		}
		// Invalid events used to make the whole batch fail.
		for _, tenant := range []string{"ten\xff", strings.Repeat("a", 5<<20)} {
			if err := recorder.Record(tenantauth.UsageEvent{TenantID: tenant, Metric: "api.calls"}); !errors.Is(err, tenantauth.ErrInvalid) {
				t.Fatalf("%v", err)
			}
		}
	}
	if unsent := recorder.Close(t.Context()); len(unsent) != 0 || len(rejected) != 2 {
		t.Errorf("%d batches were not sent, rejected were %v", len(unsent), rejected)
	}
	query := tenantauth.UsageQuery{TenantID: "ten_demo", Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(2 * time.Hour), Bucket: tenantauth.Month}
	for sum, err := range client.QueryUsage(t.Context(), query) {
		if err != nil || sum.Quantity != 1_198 {
			t.Errorf("%+v, %v", sum, err)
		}
	}
}

func TestRealServiceStreamsRevocation(t *testing.T) {
	// With a manual clock, only the stream can invalidate the near cache.
	client, real := connect(t, tenantauth.WithClock(fakeclock.New()))
	eventually(t, func() bool { return client.WatchState().Live })
	validation, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key))
	if err != nil || !validation.IsValid() {
		t.Fatalf("%+v, %v", validation, err)
	}
	request := &tenantauthv1.RevokeKeyRequest{KeyId: validation.KeyID, Reason: "a test"}
	if _, err := tenantauthv1.NewAdminServiceClient(client.Raw()).RevokeKey(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		revoked, err := client.ValidateKey(t.Context(), tenantauth.Key(real.Key))
		return err == nil && revoked.Verdict == tenantauth.Revoked
	})
}

// eventually polls until a condition holds.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	turns := time.NewTicker(2 * time.Millisecond)
	defer turns.Stop()
	for end := time.Now().Add(testTimeout); !so(); <-turns.C {
		if time.Now().After(end) {
			t.Fatal("the condition never held")
		}
	}
}
