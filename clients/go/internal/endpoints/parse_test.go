package endpoints_test

import (
	"strings"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

func TestValidEndpointsAreParsed(t *testing.T) {
	for text, want := range map[string]struct {
		dialed, authorities string
		security            endpoints.Security
	}{
		"127.0.0.1:50051":                      {"127.0.0.1:50051", "127.0.0.1:50051", endpoints.Unspecified},
		"[::1]:50051":                          {"[::1]:50051", "[::1]:50051", endpoints.Unspecified},
		"[fe80::1%lo]:50051":                   {"[fe80::1%lo]:50051", "[fe80::1]:50051", endpoints.Unspecified},
		"dns:///tenant-auth:50051":             {"tenant-auth:50051", "tenant-auth:50051", endpoints.Unspecified},
		"http://tenant-auth:50051/":            {"tenant-auth:50051", "tenant-auth:50051", endpoints.Plaintext},
		"https://[::1]:443":                    {"[::1]:443", "[::1]:443", endpoints.TLS},
		"https://a:1,https://b:1":              {"a:1 b:1", "a:1 b:1", endpoints.TLS},
		"http://a:1,b:1":                       {"a:1 b:1", "a:1 b:1", endpoints.Plaintext},
		"[::1]:1,a_b-c.d:65535":                {"[::1]:1 a_b-c.d:65535", "[::1]:1 a_b-c.d:65535", endpoints.Unspecified},
		"tenant-auth.svc.cluster.local.:50051": {"tenant-auth.svc.cluster.local.:50051", "tenant-auth.svc.cluster.local:50051", endpoints.Unspecified},
	} {
		parsed, security, err := endpoints.Parse([]string{text})
		var dialed, authorities []string
		for _, endpoint := range parsed {
			dialed = append(dialed, endpoint.String())
			authorities = append(authorities, endpoint.Authority())
		}
		if err != nil || strings.Join(dialed, " ") != want.dialed || strings.Join(authorities, " ") != want.authorities || security != want.security {
			t.Errorf("%q: %v, %v, %v, %v", text, dialed, authorities, security, err)
		}
	}
	parsed, _, err := endpoints.Parse([]string{"a:1,b:2", "c:3"})
	if err != nil || len(parsed) != 3 {
		t.Errorf("a list: %v, %v", parsed, err)
	}
}

func TestInvalidEndpointErrorNamesTheFix(t *testing.T) {
	for _, text := range []string{
		"", "host", ":1", "a:", "a:0", "a:65536", "a:+1", "a:http", "::1:50051", "fe80::1", "[::1]", "[::1:1", "[a]:1", "[127.0.0.1]:1",
		"ftp://host:1", "grpc://host:1", "unix:///run/a", "dns://1.1.1.1/host:1", "http://a:1/v1", "http://a:1//", "a:1/", "http://a:1?b", "http://a:1#b",
		"http://me:pw@a:1", "me@a:1", " a:1", "a:1 ", "a b:1", "a\n:1", "a..b:1", ".:1", "ä:1", strings.Repeat("a", 64) + ":1",
		"http://", "https://a:1,http://b:1", "a:1,https://b:1", "a:1,,b:1", "a:1, b:1",
	} {
		_, _, err := endpoints.Parse([]string{text})
		if err == nil {
			t.Errorf("%q: want an error", text)
		} else if !strings.Contains(err.Error(), "use ") {
			t.Errorf("%q: error %v does not name the fix", text, err)
		}
	}
	if _, _, err := endpoints.Parse(nil); err == nil {
		t.Error("empty list: want an error")
	}
}
