package tenantauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

func TestInvalidOptionIsRejectedByName(t *testing.T) {
	a := newAuthority(t)
	a.issue("client", x509.ExtKeyUsageClientAuth)
	a.issue("other", x509.ExtKeyUsageClientAuth)
	pem := func(name string) []byte {
		text, err := os.ReadFile(a.file(name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := func(files tenantauth.TLSFiles) tenantauth.Option { return tenantauth.WithTLSFiles(files) }
	for want, options := range map[string][]tenantauth.Option{
		"WithTimeout(":            {tenantauth.WithTimeout(0), tenantauth.WithTimeout(-1), tenantauth.WithTimeout(24*time.Hour + 1), tenantauth.WithTimeout(math.MaxInt64)},
		"WithHedgeAfter(":         {tenantauth.WithHedgeAfter(0), tenantauth.WithHedgeAfter(-1), tenantauth.WithHedgeAfter(math.MaxInt64)},
		"WithAttempts(":           {tenantauth.WithAttempts(0), tenantauth.WithAttempts(-1), tenantauth.WithAttempts(101)},
		"WithNearCacheEntries(":   {tenantauth.WithNearCacheEntries(0), tenantauth.WithNearCacheEntries(-1), tenantauth.WithNearCacheEntries(10_000_001)},
		"WithWatchedFor(":         {tenantauth.WithWatchedFor(0), tenantauth.WithWatchedFor(-1), tenantauth.WithWatchedFor(25 * time.Hour)},
		"WithUserAgent(":          {tenantauth.WithUserAgent(""), tenantauth.WithUserAgent("a\nb"), tenantauth.WithUserAgent("ä"), tenantauth.WithUserAgent(strings.Repeat("a", 257))},
		"WithLogger(nil)":         {tenantauth.WithLogger(nil)},
		"WithClock(nil)":          {tenantauth.WithClock(nil)},
		"WithDialOptions(nil)":    {tenantauth.WithDialOptions(nil)},
		"WithTLS(nil)":            {tenantauth.WithTLS(nil)},
		"an option is nil":        {nil},
		"WithCallerTokenFunc(nil": {tenantauth.WithCallerTokenFunc(nil)},
		"WithCallerToken: ": {
			tenantauth.WithCallerToken(""), tenantauth.WithCallerToken(" \n"), tenantauth.WithCallerToken("two lines\nof"),
			tenantauth.WithCallerToken("a b"), tenantauth.WithCallerToken("a\x00"), tenantauth.WithCallerToken("ä"), tenantauth.WithCallerToken(strings.Repeat("a", 4_097)),
		},
		"WithCallerTokenFile: ": {tenantauth.WithCallerTokenFile("/nowhere"), tenantauth.WithCallerTokenFile(""), tenantauth.WithCallerTokenFile(empty)},
		"WithTLSFiles: CA: ": {
			files(tenantauth.TLSFiles{CA: a.file("none.pem")}), files(tenantauth.TLSFiles{CA: a.file("ca.key")}),
			files(tenantauth.TLSFiles{CA: "/etc/passwd"}), files(tenantauth.TLSFiles{CA: string(pem("ca.pem"))}),
		},
		"WithTLSFiles: Key: ":          {files(tenantauth.TLSFiles{Cert: a.file("client.pem")}), files(tenantauth.TLSFiles{Cert: a.file("client.pem"), Key: string(pem("client.key"))})},
		"WithTLSFiles: Cert: ":         {files(tenantauth.TLSFiles{Key: a.file("client.key")})},
		"WithTLSFiles: Cert and Key: ": {files(tenantauth.TLSFiles{Cert: a.file("client.pem"), Key: a.file("other.key")}), files(tenantauth.TLSFiles{Cert: a.file("client.key"), Key: a.file("client.key")})},
		"ServerName: ":                 {files(tenantauth.TLSFiles{ServerName: "a b"}), files(tenantauth.TLSFiles{ServerName: "a\nb"}), files(tenantauth.TLSFiles{ServerName: "a:1"})},
		"WithTLSPEM: CA: ":             {tenantauth.WithTLSPEM(tenantauth.TLSPEM{CA: []byte("/etc/ca.pem")})},
		"WithTLSPEM: Cert and Key: ":   {tenantauth.WithTLSPEM(tenantauth.TLSPEM{Cert: pem("client.pem"), Key: pem("other.key")})},
	} {
		for number, option := range options {
			client, err := tenantauth.New("127.0.0.1:1", option)
			if err == nil {
				_ = client.Close()
				t.Errorf("%s%d: want an error", want, number)
				continue
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s%d: %v", want, number, err)
			}
			if strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("%s%d: the error contains PEM: %v", want, number, err)
			}
		}
	}
}

func TestContradictingOptionsAreRejected(t *testing.T) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	for name, test := range map[string]struct {
		endpoint string
		options  []tenantauth.Option
	}{
		"TLS settings for http://": {"http://localhost:1", []tenantauth.Option{tenantauth.WithTLS(config)}},
		"TLS twice":                {"localhost:1", []tenantauth.Option{tenantauth.WithTLS(config), tenantauth.WithTLSPEM(tenantauth.TLSPEM{})}},
		"two tokens":               {"localhost:1", []tenantauth.Option{tenantauth.WithCallerToken("a"), tenantauth.WithCallerToken("b")}},
		"no endpoint":              {"", nil},
		"http:// and https://":     {"http://a:1,https://b:1", nil},
	} {
		if _, err := tenantauth.New(test.endpoint, test.options...); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if _, err := tenantauth.New([]string{}); err == nil {
		t.Error("empty list: want an error")
	}
	// Regression test: this used to panic.
	if _, err := tenantauth.New("127.0.0.1:1", nil); err == nil {
		t.Error("nil option: want an error")
	}
}

func TestInvalidRecorderOptionIsRejected(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	for number, option := range []tenantauth.RecorderOption{
		tenantauth.WithRecorderDelay(0), tenantauth.WithRecorderDelay(math.MaxInt64), tenantauth.WithRecorderQueue(0),
		tenantauth.WithRecorderQueue(10_000_001), tenantauth.WithOnRejected(nil), nil,
	} {
		if _, err := r.client.NewRecorder(option); err == nil {
			t.Errorf("%d: want an error", number)
		}
	}
}

func TestEndpointListEqualsCommaSeparatedText(t *testing.T) {
	first, second := fake.Start(t), fake.Start(t)
	client, err := tenantauth.New([]string{"dns:///" + first.Address(), second.Address()}, tenantauth.WithoutNearCache(), tenantauth.WithTimeout(testTimeout))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for first.Calls("GetServerInfo") == 0 || second.Calls("GetServerInfo") == 0 {
		if _, err := client.ServerInfo(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
