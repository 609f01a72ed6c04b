package admission_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// found returns the address that is determined for a request, or "none".
func found(t *testing.T, location *admission.ClientAddress, peer string, header http.Header) string {
	t.Helper()
	// An address that the context already has must not be used.
	ctx := tenantauth.ContextWithClientAddressText(t.Context(), "203.0.113.99")
	return addressOf(location.AddTo(ctx, peer, header.Values))
}

func addressOf(ctx context.Context) string {
	if address, ok := tenantauth.ClientAddressFrom(ctx); ok {
		return address.String()
	}
	return "none"
}

func TestAddressOfConnectionIsUsedByDefault(t *testing.T) {
	forged := http.Header{"X-Forwarded-For": {"198.51.100.1"}}
	for peer, want := range map[string]string{
		"192.0.2.7:54321": "192.0.2.7", "192.0.2.7": "192.0.2.7", "[2001:db8::7]:54321": "2001:db8::7", "[fe80::1%eth0]:54321": "fe80::1",
		"[::ffff:192.0.2.7]:54321": "192.0.2.7", "": "none", "@": "none", "/run/peer.sock": "none", "pipe": "none",
	} {
		if got := found(t, &admission.ClientAddress{}, peer, forged); got != want {
			t.Errorf("%q: %s", peer, got)
		}
	}
}

func TestHeaderCountsOnlyIfThePeerIsTrusted(t *testing.T) {
	const peer = "10.0.0.1:54321"
	for name, test := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"untrusted peer":               {"192.0.2.7:1", []string{"198.51.100.1"}, "192.0.2.7"},
		"untrusted peer, of a proxy":   {"192.0.2.7:1", []string{"10.0.0.1"}, "192.0.2.7"},
		"untrusted peer, malformed":    {"192.0.2.7:1", []string{"?"}, "192.0.2.7"},
		"untrusted IPv6 peer":          {"[2001:db8:2::1]:1", []string{"198.51.100.1"}, "2001:db8:2::1"},
		"socket":                       {"/run/proxy.sock", []string{"198.51.100.1"}, "none"},
		"one entry":                    {peer, []string{"198.51.100.1"}, "198.51.100.1"},
		"trusted single address":       {"172.16.0.9:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"next to the single address":   {"172.16.0.8:1", []string{"198.51.100.1"}, "172.16.0.8"},
		"peer in IPv6 form":            {"[::ffff:10.0.0.1]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"IPv6 peer":                    {"[2001:db8:1::1%eth0]:1", []string{"2001:db8:9::1"}, "2001:db8:9::1"},
		"forged leftmost entries":      {peer, []string{"192.0.2.1, 10.0.0.2, 198.51.100.1"}, "198.51.100.1"},
		"forged and malformed entries": {peer, []string{"?, ,192.0.2.1,198.51.100.1"}, "198.51.100.1"},
		"chain of proxies":             {peer, []string{"203.0.113.5, 198.51.100.1, 10.0.0.3, 2001:db8:1::2"}, "198.51.100.1"},
		"proxies only":                 {peer, []string{"10.0.0.4, 10.0.0.3,10.0.0.2"}, "10.0.0.4"},
		"ports":                        {peer, []string{"198.51.100.1:443, 10.0.0.2:80"}, "198.51.100.1"},
		"IPv6 with a port":             {peer, []string{"[2001:db8:9::1]:443, [2001:db8:1::2]:80"}, "2001:db8:9::1"},
		"IPv6 in brackets":             {peer, []string{"[2001:db8:9::1]"}, "2001:db8:9::1"},
		"IPv4 in IPv6 form":            {peer, []string{"::ffff:198.51.100.1, ::ffff:10.0.0.2"}, "198.51.100.1"},
		"repeated lines":               {peer, []string{"192.0.2.1", "198.51.100.1, 10.0.0.3", "10.0.0.2"}, "198.51.100.1"},
		"forged first line":            {peer, []string{"192.0.2.1", "198.51.100.1"}, "198.51.100.1"},
		"spaces and tabs":              {peer, []string{" \t198.51.100.1 ,\t10.0.0.2 "}, "198.51.100.1"},
		"missing":                      {peer, nil, "none"},
		"empty":                        {peer, []string{""}, "none"},
		"empty last line":              {peer, []string{"198.51.100.1", ""}, "none"},
		"empty entry":                  {peer, []string{"198.51.100.1,,10.0.0.2"}, "none"},
		"trailing comma":               {peer, []string{"198.51.100.1,"}, "none"},
		"malformed":                    {peer, []string{"unknown"}, "none"},
		"malformed on the way":         {peer, []string{"198.51.100.1, unknown, 10.0.0.2"}, "none"},
		"leftmost is malformed":        {peer, []string{"unknown, 10.0.0.2"}, "none"},
		"a name":                       {peer, []string{"client.example.com"}, "none"},
		"a network":                    {peer, []string{"198.51.100.0/24"}, "none"},
		"another header's form":        {peer, []string{"for=198.51.100.1"}, "none"},
		"another space":                {peer, []string{"198.51.100.1\u00a0"}, "none"},
		"too long":                     {peer, []string{strings.Repeat("1", 1<<20)}, "none"},
	} {
		var location admission.ClientAddress
		if err := location.Trust("10.0.0.0/8", "172.16.0.9", "2001:db8:1::/48"); err != nil {
			t.Fatal(err)
		}
		header := http.Header{"X-Forwarded-For": test.lines, "Cf-Connecting-Ip": {"203.0.113.1"}}
		if got := found(t, &location, test.peer, header); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestOtherHeaderReplacesTheDefaultOne(t *testing.T) {
	var location admission.ClientAddress
	if err := location.UseHeader("CF-Connecting-IP"); err != nil {
		t.Fatal(err)
	}
	both := http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Cf-Connecting-Ip": {"203.0.113.1"}}
	if got := found(t, &location, "10.0.0.1:1", both); got != "10.0.0.1" {
		t.Errorf("without trusted proxies: %s", got)
	}
	if err := location.Trust("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	if got := found(t, &location, "10.0.0.1:1", both); got != "203.0.113.1" {
		t.Errorf("%s", got)
	}
	if got := found(t, &location, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"198.51.100.1"}}); got != "none" {
		t.Errorf("only the default header: %s", got)
	}
}

func TestInvalidProxyOrHeaderIsRejectedByName(t *testing.T) {
	var location admission.ClientAddress
	for text, hint := range map[string]string{
		"": "such as 10.0.0.0/8", "proxy.example.com": "such as 10.0.0.0/8", "10.0.0.0/33": "such as 10.0.0.0/8", "10.0.0.1:80": "such as 10.0.0.0/8",
		"10.0.0.1/8": "the network is 10.0.0.0/8", "2001:db8::1/32": "the network is 2001:db8::/32",
	} {
		if err := location.Trust("192.0.2.1", text); err == nil || !strings.Contains(err.Error(), "WithTrustedProxies(\""+text) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, name := range []string{"", "X Real IP", "x:y", strings.Repeat("a", 101)} {
		if err := location.UseHeader(name); err == nil || !strings.Contains(err.Error(), "WithClientAddressHeader") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
