package tenantauth_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// freeAddress returns an address on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// principalKeysFile writes the private keys of the signers.
func principalKeysFile(t *testing.T, signers ...signer) string {
	t.Helper()
	var text []byte
	for _, signer := range signers {
		private, err := x509.MarshalPKCS8PrivateKey(signer.private)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	}
	path := filepath.Join(t.TempDir(), "principal-keys.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// askDoor asks the service about a key like a proxy, and returns the principal token of its answer.
func askDoor(t *testing.T, forward, audience, key string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+forward+"/forward-auth?audience="+audience, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	token := response.Header.Get("X-Tenant-Principal")
	if response.StatusCode != http.StatusOK || token == "" {
		t.Fatalf("%s, a token of %d bytes", response.Status, len(token))
	}
	return token
}

func TestRealServiceSignsPrincipalTokens(t *testing.T) {
	for _, signers := range [][]signer{{ecSigner(t), edSigner(t)}, {edSigner(t)}} {
		t.Run(string(signers[0].algorithm), func(t *testing.T) {
			forward := freeAddress(t)
			real := service.Serve(t, "127.0.0.1:0", map[string]string{
				"TENANT_AUTH_FORWARD_LISTEN": forward, "TENANT_AUTH_PRINCIPAL_KEYS_FILE": principalKeysFile(t, signers...),
				"TENANT_AUTH_PRINCIPAL_ISSUER": issuer,
			})
			// The change is made by another client, so that only the stream can tell.
			client := connectTo(t, []string{real.Address}, tenantauth.WithTimeout(testTimeout))
			other := connectTo(t, []string{real.Address}, tenantauth.WithTimeout(testTimeout), tenantauth.WithoutNearCache())
			admin := tenantauthv1.NewAdminServiceClient(other.Raw())
			eventually(t, func() bool { return client.WatchState().Live })
			_, err := admin.CreateTenant(t.Context(), &tenantauthv1.CreateTenantRequest{TenantId: "ten_1", Name: "Acme", Plan: "pro"})
			if err != nil {
				t.Fatal(err)
			}
			issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{TenantId: "ten_1", Name: "orders", Scopes: []string{"orders:read"}})
			if err != nil {
				t.Fatal(err)
			}
			keyID := issued.GetKey().GetKeyId()
			token := askDoor(t, forward, audience, issued.GetPlaintext())
			verifier, err := client.NewPrincipalVerifier(audience)
			if err != nil {
				t.Fatal(err)
			}
			principal, err := verifier.Verify(t.Context(), token, "orders:read")
			if err != nil || principal.TenantID != "ten_1" || principal.Plan != "pro" || principal.KeyID != keyID ||
				!principal.Has("orders:read") || principal.Revision <= 0 {
				t.Fatalf("%+v, %v", principal, err)
			}
			var denied *tenantauth.Denied
			if _, err := verifier.Verify(t.Context(), token, "orders:write"); !errors.As(err, &denied) {
				t.Errorf("missing scope: %v", err)
			}
			if _, err := verifier.Verify(t.Context(), askDoor(t, forward, "orders", issued.GetPlaintext())); !errors.Is(err, tenantauth.ErrInvalidPrincipal) {
				t.Errorf("another audience: %v", err)
			}
			if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: keyID, Reason: "a test"}); err != nil {
				t.Fatal(err)
			}
			eventually(t, func() bool {
				_, err := verifier.Verify(t.Context(), token)
				return errors.Is(err, tenantauth.ErrOutdatedPrincipal)
			})
		})
	}
}
