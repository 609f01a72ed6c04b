// Package address parses the network addresses of customers, and the networks that they are compared with.
package address

import (
	"net/netip"
	"strconv"
	"strings"
)

// maxLen is the maximum length of an address as text. It leaves room for a zone.
const maxLen = 128

// Parse parses an address: IPv4, or IPv6 with or without brackets and zone. IPv4 and bracketed IPv6 may have a port. The
// result is plain; see [Plain].
func Parse(text string) (netip.Addr, bool) {
	if len(text) > maxLen {
		return netip.Addr{}, false
	}
	parsed, ok := parse(text)
	if !ok {
		return netip.Addr{}, false
	}
	return Plain(parsed), true
}

func parse(text string) (netip.Addr, bool) {
	if rest, ok := strings.CutPrefix(text, "["); ok {
		host, port, closed := strings.Cut(rest, "]")
		parsed, ok := parseHost(host)
		return parsed, ok && closed && parsed.Is6() && (port == "" || isPort(port))
	}
	// IPv6 has at least two colons, and without brackets no port.
	if colon := strings.IndexByte(text, ':'); colon >= 0 && colon == strings.LastIndexByte(text, ':') {
		parsed, ok := parseHost(text[:colon])
		return parsed, ok && isPort(text[colon:])
	}
	return parseHost(text)
}

// Plain returns an address without its zone, and the IPv4 address of an IPv4-mapped IPv6 address. Networks contain only
// plain addresses.
func Plain(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// parseHost parses an address without brackets and port. It removes the zone before [netip.ParseAddr] sees it, because
// that function stores each zone, and customers may invent any number of them.
func parseHost(text string) (netip.Addr, bool) {
	host, zone, hasZone := strings.Cut(text, "%")
	parsed, err := netip.ParseAddr(host)
	return parsed, err == nil && (!hasZone || parsed.Is6() && isZone(zone))
}

// isPort reports whether a text is a colon and a port.
func isPort(text string) bool {
	digits, ok := strings.CutPrefix(text, ":")
	_, err := strconv.ParseUint(digits, 10, 16)
	return ok && err == nil
}

// isZone rejects characters that are in no name of a network interface and would make a list or a network of the
// address.
func isZone(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(char rune) bool {
		return char <= ' ' || char > '~' || strings.ContainsRune("%/,[]", char)
	})
}

// ParseNetwork parses a network in CIDR notation. An address is a network of one address.
func ParseNetwork(text string) (netip.Prefix, bool) {
	if strings.Contains(text, "/") {
		network, err := netip.ParsePrefix(text)
		return network, err == nil && !network.Addr().Is4In6()
	}
	single, err := netip.ParseAddr(text)
	if err != nil || single.Is4In6() || single.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(single, single.BitLen()), true
}

// IsIn reports whether one of the networks contains a plain address. The zero network contains nothing.
func IsIn(address netip.Addr, networks []netip.Prefix) bool {
	for _, network := range networks {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
