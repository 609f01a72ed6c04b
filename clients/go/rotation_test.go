package tenantauth_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
)

// These tests rotate the caller's credentials while it runs, as operators do.

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	// The file is replaced atomically, like a mounted secret.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func callers(token string) string {
	digest := sha256.Sum256([]byte(token))
	return fmt.Sprintf("[[caller]]\nname = \"tests\"\nroles = [\"validator\"]\ntoken_sha256 = [\"%s\"]\n", hex.EncodeToString(digest[:]))
}

func TestCallerTokenIsRotatedWithoutRestart(t *testing.T) {
	folder := t.TempDir()
	known, shown := filepath.Join(folder, "callers.toml"), filepath.Join(folder, "token")
	const first, second = "tac_the-first-token-of-the-tests-which-is-long", "tac_the-second-token-of-the-tests-which-is-long"
	overwrite(t, known, callers(first))
	overwrite(t, shown, first+"\r\n")
	real := service.Serve(t, "127.0.0.1:0", map[string]string{"TENANT_AUTH_CALLERS_FILE": known})
	client := connectTo(t, []string{real.Address}, tenantauth.WithCallerTokenFile(shown), tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	unknown := connectTo(t, []string{real.Address}, tenantauth.WithCallerToken("tac_nobodys-token"), tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	ask := func(client *tenantauth.Client) error {
		_, err := client.ValidateKey(t.Context(), "unknown-key")
		return err
	}
	if err := ask(client); err != nil {
		t.Fatal(err)
	}
	if err := ask(unknown); !errors.Is(err, tenantauth.ErrUnauthenticated) {
		t.Errorf("unknown caller: %v", err)
	}
	overwrite(t, known, callers(second))
	real.Reload()
	eventually(t, func() bool { return errors.Is(ask(client), tenantauth.ErrUnauthenticated) })
	overwrite(t, shown, second)
	if err := ask(client); err != nil {
		t.Errorf("with the new token: %v", err)
	}
}

func TestCertificatesAreReloadedForNewConnections(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	for _, a := range []*authority{old, next} {
		a.issueFor("server", x509.ExtKeyUsageServerAuth, "localhost", net.IPv4(127, 0, 0, 1))
	}
	folder := t.TempDir()
	install := func(a *authority, names ...string) {
		for _, name := range names {
			text, err := os.ReadFile(a.file(name))
			if err != nil {
				t.Fatal(err)
			}
			overwrite(t, filepath.Join(folder, name), string(text))
		}
	}
	install(old, "ca.pem", "server.pem", "server.key")
	real := service.Serve(t, "127.0.0.1:0", map[string]string{
		"TENANT_AUTH_TLS_CERT_FILE": filepath.Join(folder, "server.pem"), "TENANT_AUTH_TLS_KEY_FILE": filepath.Join(folder, "server.key"),
	})
	files := tenantauth.TLSFiles{CA: filepath.Join(folder, "ca.pem")}
	client := connectTo(t, []string{"https://" + real.Address}, tenantauth.WithTLSFiles(files), tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	ask := func() error {
		_, err := client.ServerInfo(t.Context())
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	install(next, "ca.pem", "server.pem", "server.key")
	real.Kill()
	real.Restart()
	eventually(t, func() bool { return ask() == nil })
	// If the files cannot be read, the content from the start stays in use.
	overwrite(t, files.CA, "no certificate")
	install(old, "server.pem", "server.key")
	real.Kill()
	real.Restart()
	eventually(t, func() bool { return ask() == nil })
}
