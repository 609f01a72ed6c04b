package tenantauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
)

// authority issues certificates and stores them in files, as operators do.
type authority struct {
	t           *testing.T
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, folder: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject: pkix.Name{CommonName: "tests"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.certificate, a.key = a.sign("ca", template, nil, nil)
	return a
}

func (a *authority) sign(name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", private)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return certificate, key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name) }

func (a *authority) issue(name string, usage x509.ExtKeyUsage) {
	a.issueFor(name, usage, "localhost", net.IPv4(127, 0, 0, 1))
}

func (a *authority) issueFor(name string, usage x509.ExtKeyUsage, host string, addresses ...net.IP) {
	a.sign(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: []string{host}, IPAddresses: addresses,
	}, a.certificate, a.key)
}

func TestTLSWithPrivateAuthorityAndClientCertificate(t *testing.T) {
	a := newAuthority(t)
	a.issue("server", x509.ExtKeyUsageServerAuth)
	a.issue("client", x509.ExtKeyUsageClientAuth)
	pair, err := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	service := fake.Start(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	})))
	_, port, _ := strings.Cut(service.Address(), ":")
	full := tenantauth.TLSFiles{CA: a.file("ca.pem"), Cert: a.file("client.pem"), Key: a.file("client.key")}
	nameless := tenantauth.TLSFiles{CA: a.file("ca.pem")}
	for name, test := range map[string]struct {
		endpoints string
		options   []tenantauth.Option
		answered  bool
	}{
		// Each address is verified against the name that it was resolved from.
		"by name and address":         {"localhost:" + port + ",127.0.0.1:" + port, []tenantauth.Option{tenantauth.WithTLSFiles(full)}, true},
		"https":                       {"https://localhost:" + port, []tenantauth.Option{tenantauth.WithTLSFiles(full)}, true},
		"without a certificate":       {"localhost:" + port, []tenantauth.Option{tenantauth.WithTLSFiles(nameless)}, false},
		"with the machine's roots":    {"https://localhost:" + port, nil, false},
		"in plaintext":                {"localhost:" + port, nil, false},
		"by an address that is wrong": {"127.0.0.2:" + port, []tenantauth.Option{tenantauth.WithTLSFiles(full)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := tenantauth.New(test.endpoints, append(test.options, tenantauth.WithoutNearCache(), tenantauth.WithAttempts(1), tenantauth.WithTimeout(testTimeout))...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			for range 4 {
				_, err = client.ServerInfo(t.Context())
				if answered := err == nil; answered != test.answered {
					t.Fatalf("success is %t: %v", answered, err)
				}
			}
			if !test.answered && !errors.Is(err, tenantauth.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAddressIsVerifiedAgainstItsName(t *testing.T) {
	a := newAuthority(t)
	a.issueFor("server", x509.ExtKeyUsageServerAuth, "tenant-auth.example")
	a.issue("client", x509.ExtKeyUsageClientAuth)
	callers := filepath.Join(t.TempDir(), "callers.toml")
	text := "[[caller]]\nname = \"tests\"\nroles = [\"validator\", \"admin\"]\ndns = [\"localhost\"]\n"
	if err := os.WriteFile(callers, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"TENANT_AUTH_CALLERS_FILE":  callers,
		"TENANT_AUTH_TLS_CERT_FILE": a.file("server.pem"), "TENANT_AUTH_TLS_KEY_FILE": a.file("server.key"),
		"TENANT_AUTH_TLS_CLIENT_CA_FILE": a.file("ca.pem"),
	}
	first := service.Serve(t, "127.0.0.1:0", variables)
	second := service.Serve(t, "127.0.0.2:"+port(first.Address), variables)
	dns := &names{known: map[string][]string{"tenant-auth.example": {"127.0.0.1", "127.0.0.2"}}}
	files := tenantauth.TLSFiles{CA: a.file("ca.pem"), Cert: a.file("client.pem"), Key: a.file("client.key")}
	named := files
	named.ServerName = "tenant-auth.example"
	putShared(t, first, tenantauth.WithTLSFiles(named))
	putShared(t, second, tenantauth.WithTLSFiles(named))
	for name, test := range map[string]struct {
		endpoints string
		files     tenantauth.TLSFiles
		answered  bool
	}{
		"a name with two addresses":      {"https://tenant-auth.example:" + port(first.Address), files, true},
		"two addresses and a name to be": {first.Address + "," + second.Address, named, true},
		"addresses, not in the cert":     {first.Address + "," + second.Address, files, false},
		"without a certificate":          {"https://tenant-auth.example:" + port(first.Address), tenantauth.TLSFiles{CA: a.file("ca.pem")}, false},
	} {
		client := connectTo(t, []string{test.endpoints}, tenantauth.WithTLSFiles(test.files), tenantauth.WithoutNearCache(),
			tenantauth.WithAttempts(1), tenantauth.WithTimeout(testTimeout), tenantauth.WithLookup(dns.lookup))
		for range 6 {
			_, err := client.RequireKey(t.Context(), shared)
			if (err == nil) != test.answered {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
