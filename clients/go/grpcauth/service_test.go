package grpcauth_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestRealServiceResultsHaveTheirStatusCodes(t *testing.T) {
	real := service.Start(t)
	client, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	admin := tenantauthv1.NewAdminServiceClient(client.Raw())
	issue := func(network string) string {
		t.Helper()
		issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{
			TenantId: "ten_demo", Name: "limited", Scopes: []string{"demo:read"}, AllowedNetworks: []string{network},
		})
		if err != nil {
			t.Fatal(err)
		}
		return issued.GetPlaintext()
	}
	for name, test := range map[string]struct {
		key   string
		scope string
		code  codes.Code
	}{
		"valid key":       {real.Key, "demo:read", codes.OK},
		"unknown key":     {"unknown-key", "demo:read", codes.Unauthenticated},
		"mistyped key":    {real.Key[:len(real.Key)-1], "demo:read", codes.Unauthenticated},
		"own network":     {issue("127.0.0.0/8"), "demo:read", codes.OK},
		"other network":   {issue("192.0.2.0/24"), "demo:read", codes.PermissionDenied},
		"missing scope":   {real.Key, "demo:delete", codes.PermissionDenied},
		"no such scope":   {real.Key, "Demo Delete", codes.Unavailable},
		"no key for that": {"two words", "demo:read", codes.Unauthenticated},
	} {
		scopes := grpcauth.WithScopes(func(string) []string { return []string{test.scope} })
		server, principals := serve(t, interceptor(t, client, scopes))
		if err := check(server, t, "authorization", "Bearer "+test.key); status.Code(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
		if test.code == codes.OK {
			if principal := <-principals; principal.TenantID != "ten_demo" {
				t.Errorf("%s: %+v", name, principal)
			}
		}
	}
}

func TestRealServiceLimitsHaveTheirDetails(t *testing.T) {
	real := service.Start(t)
	client, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	service.SetQuota(t, client.Raw(), "requests", "api.calls", 1)
	server, principals := serve(t, interceptor(t, client, grpcauth.WithCosts(call)))
	if err := check(server, t, "authorization", "Bearer "+real.Key); err != nil {
		t.Fatal(err)
	}
	<-principals
	err = check(server, t, "authorization", "Bearer "+real.Key)
	made := refusalOf(err)
	if status.Code(err) != codes.ResourceExhausted || made.reason != "QUOTA_EXCEEDED" || made.retry <= 0 || len(made.violations) != 1 ||
		made.violations[0] != "tenant:ten_demo The limit requests of the metric api.calls is exceeded." {
		t.Errorf("%v %+v", err, made)
	}
}
