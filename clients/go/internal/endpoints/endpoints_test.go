package endpoints_test

import (
	"slices"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

func TestEndpointsAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]struct {
		hosts  []string
		secure bool
	}{
		"127.0.0.1:50051":                      {[]string{"127.0.0.1:50051"}, false},
		"http://tenant-auth:50051/":            {[]string{"tenant-auth:50051"}, false},
		"https://tenant-auth:443":              {[]string{"tenant-auth:443"}, true},
		"[::1]:1, a:2":                         {[]string{"[::1]:1", "a:2"}, false},
		"https://a:1,https://b:1":              {[]string{"a:1", "b:1"}, true},
		"http://a:1,b:1":                       {[]string{"a:1", "b:1"}, false},
		"tenant-auth.svc.cluster.local.:50051": {[]string{"tenant-auth.svc.cluster.local.:50051"}, false},
	} {
		hosts, secure, err := endpoints.Parse(text)
		if err != nil || !slices.Equal(hosts, want.hosts) || secure != want.secure {
			t.Errorf("%q: %v, %t, %v", text, hosts, secure, err)
		}
	}
}
