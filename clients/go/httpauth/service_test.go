package httpauth_test

import (
	"net/http"
	"regexp"
	"strconv"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestRealServiceResultsHaveTheirStatuses(t *testing.T) {
	real := service.Start(t)
	client, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{TenantId: "ten_demo", Name: "orders", Scopes: []string{"orders:read"}})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what, key string, status int, code string) problem {
		t.Helper()
		response := serve(middleware(t, client), http.Header{"Authorization": {"Bearer " + key}})
		var body problem
		if status != http.StatusOK {
			body = rejection(t, what, response)
		}
		if response.Code != status || body.Code != code {
			t.Errorf("%s: %d %s", what, response.Code, response.Body)
		}
		return body
	}
	key := issued.GetPlaintext()
	expect("valid key", key, 200, "")
	if response := serve(middleware(t, client, httpauth.WithHeader("X-API-Key")), http.Header{"X-Api-Key": {key}}); response.Code != 200 {
		t.Errorf("custom header: %d", response.Code)
	}
	for network, want := range map[string]struct {
		status int
		code   string
	}{"192.0.2.0/24": {200, ""}, "203.0.113.0/24": {403, "ADDRESS_NOT_ALLOWED"}} {
		limited, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{
			TenantId: "ten_demo", Name: "limited", Scopes: []string{"orders:read"}, AllowedNetworks: []string{network},
		})
		if err != nil {
			t.Fatal(err)
		}
		// Requests of httptest are from 192.0.2.1.
		expect("key of "+network, limited.GetPlaintext(), want.status, want.code)
	}
	expect("unknown key", "unknown-key", 401, "UNKNOWN")
	expect("mistyped key", key[:len(key)-1], 401, "MALFORMED")
	if body := expect("another key", real.Key, 403, "INSUFFICIENT_SCOPE"); len(body.MissingScopes) != 1 || body.MissingScopes[0] != "orders:read" {
		t.Errorf("%+v", body)
	}
	// The same client has just validated the key: its own change must be visible immediately.
	if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: issued.GetKey().GetKeyId(), Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	expect("a revoked key", key, 401, "REVOKED")
	if _, err := admin.SuspendTenant(t.Context(), &tenantauthv1.SuspendTenantRequest{TenantId: "ten_demo", Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	expect("a suspended tenant", real.Key, 403, "TENANT_SUSPENDED")
	if _, err := admin.ResumeTenant(t.Context(), &tenantauthv1.ResumeTenantRequest{TenantId: "ten_demo"}); err != nil {
		t.Fatal(err)
	}
	expect("a resumed tenant", real.Key, 403, "INSUFFICIENT_SCOPE")
	real.Stop()
	expect("undecided", "another-key", 503, "UNDECIDED")
}

func TestRealServiceLimitsHaveTheirHeaders(t *testing.T) {
	real := service.Start(t)
	client, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	service.SetQuota(t, client.Raw(), "requests", "api.calls", 2)
	issued, err := tenantauthv1.NewAdminServiceClient(client.Raw()).IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{
		TenantId: service.DemoTenant, Name: "orders", Scopes: []string{"orders:read"},
	})
	if err != nil {
		t.Fatal(err)
	}
	auth := middleware(t, client, httpauth.WithCosts(call))
	header := http.Header{"Authorization": {"Bearer " + issued.GetPlaintext()}}
	state := regexp.MustCompile(`^"requests";r=[01];t=[0-9]+$`)
	for range 2 {
		response := serve(auth, header)
		if response.Code != http.StatusOK || response.Header().Get("RateLimit-Policy") != `"requests";q=2;w=3600` || !state.MatchString(response.Header().Get("RateLimit")) {
			t.Errorf("%d %v", response.Code, response.Header())
		}
	}
	response := serve(auth, header)
	body := rejection(t, "the third request", response)
	after, err := strconv.Atoi(response.Header().Get("Retry-After"))
	if response.Code != http.StatusTooManyRequests || body.Code != "QUOTA_EXCEEDED" || err != nil || after < 1 || after > 3_900 || !state.MatchString(response.Header().Get("RateLimit")) {
		t.Errorf("%d %+v %v", response.Code, body, response.Header())
	}
}
