package address_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/address"
)

func TestEachFormOfAnAddressIsParsed(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7":                           "192.0.2.7",
		"192.0.2.7:0":                         "192.0.2.7",
		"192.0.2.7:65535":                     "192.0.2.7",
		"2001:db8::7":                         "2001:db8::7",
		"2001:DB8:0:0:0:0:0:7":                "2001:db8::7",
		"::":                                  "::",
		"[2001:db8::7]":                       "2001:db8::7",
		"[2001:db8::7]:443":                   "2001:db8::7",
		"2001:db8::7:443":                     "2001:db8::7:443",
		"fe80::1%eth0":                        "fe80::1",
		"fe80::1%eth0.100":                    "fe80::1",
		"[fe80::1%eth0:1]":                    "fe80::1",
		"[fe80::1%3]:443":                     "fe80::1",
		"::ffff:192.0.2.7":                    "192.0.2.7",
		"::ffff:c000:207":                     "192.0.2.7",
		"[::ffff:192.0.2.7]:443":              "192.0.2.7",
		"::ffff:192.0.2.7%eth0":               "192.0.2.7",
		"fe80::1%" + strings.Repeat("z", 120): "fe80::1",
	} {
		if got, ok := address.Parse(text); !ok || got.String() != want {
			t.Errorf("%q: %v, %t", text, got, ok)
		}
	}
}

func TestOtherTextIsNoAddress(t *testing.T) {
	for _, text := range []string{
		"", " ", "x", "example.com", "example.com:443", "unknown", "_hidden",
		"192.0.2", "192.0.2.256", "192.0.02.1", "192.0.2.1.", "192.0.2.1.1", "3221225985", "0xc0.0.2.1",
		"192.0.2.0/24", "2001:db8::/32", "192.0.2.1, 192.0.2.2", " 192.0.2.1", "192.0.2.1 ", "192.0.2.1\n", "\t2001:db8::1",
		"192.0.2.1:", "192.0.2.1:port", "192.0.2.1:65536", "192.0.2.1:+1", "192.0.2.1:-1", "192.0.2.1: 1", "192.0.2.1:1:1", ":443",
		"192.0.2.1%eth0", "192.0.2.1%eth0:443", "[192.0.2.1]", "[192.0.2.1]:443", "[]", "[]:443", "[", "]", "[:]",
		"[2001:db8::1", "2001:db8::1]", "[2001:db8::1]443", "[2001:db8::1]:", "[2001:db8::1]:x", "[2001:db8::1]]", "[[2001:db8::1]]", "[2001:db8::1] ",
		"2001:db8::1::1", "2001:db8", "1:2:3:4:5:6:7:8:9", "2001:db8::12345", "::ffff:192.0.2.256", "::ffff:192.0.02.1", "2001:db8::g",
		"fe80::1%", "[fe80::1%]", "[fe80::1%]:443", "fe80::1%eth 0", "fe80::1%%", "fe80::1%eth0/64", "fe80::1%eth0,192.0.2.1", "[fe80::1%a]b]", "fe80::1%é",
		"fe80::1%" + strings.Repeat("z", 121), strings.Repeat("1", 1<<20),
	} {
		if got, ok := address.Parse(text); ok {
			t.Errorf("%.200q: %v", text, got)
		}
	}
}

func TestNetworkContainsAddressesOfItsFamilyOnly(t *testing.T) {
	for _, test := range []struct {
		network, address string
		contained        bool
	}{
		{"192.0.2.0/24", "192.0.2.0", true},
		{"192.0.2.0/24", "192.0.2.255", true},
		{"192.0.2.0/24", "192.0.3.0", false},
		{"192.0.2.0/24", "::ffff:192.0.2.7", true},
		{"192.0.2.9/24", "192.0.2.7", true},
		{"198.51.100.7", "198.51.100.7", true},
		{"198.51.100.7", "198.51.100.8", false},
		{"198.51.100.7/32", "198.51.100.7", true},
		{"0.0.0.0/0", "203.0.113.1", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"0.0.0.0/0", "::", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "203.0.113.1", false},
		{"::/0", "::ffff:203.0.113.1", false},
		{"2001:db8:1::/48", "2001:db8:1:ffff::1", true},
		{"2001:db8:1::/48", "2001:db8:2::1", false},
		{"2001:db8::7", "2001:db8::7", true},
		{"fe80::/10", "fe80::1%eth0", true},
	} {
		network, ok := address.ParseNetwork(test.network)
		parsed, known := address.Parse(test.address)
		if !ok || !known || address.IsIn(parsed, []netip.Prefix{{}, network}) != test.contained {
			t.Errorf("%s contains %s: %t", test.network, test.address, !test.contained)
		}
	}
}

func TestOtherTextIsNoNetwork(t *testing.T) {
	for _, text := range []string{
		"", "x", "/", "/24", "192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/024", "192.0.2.0/x", "192.0.2/24", "192.0.2.0/24/24", " 192.0.2.0/24",
		"2001:db8::/129", "fe80::1%eth0", "fe80::%eth0/10", "192.0.2.7:443", "[2001:db8::7]", "::ffff:192.0.2.0/120", "::ffff:192.0.2.7",
	} {
		if network, ok := address.ParseNetwork(text); ok {
			t.Errorf("%q: %v", text, network)
		}
	}
	if address.IsIn(netip.MustParseAddr("192.0.2.7"), []netip.Prefix{{}}) || address.IsIn(netip.Addr{}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}) {
		t.Error("the zero network or the zero address must not match")
	}
}
