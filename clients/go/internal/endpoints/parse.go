// Package endpoints parses the endpoints of the service.
package endpoints

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Security is the transport security that the scheme of an endpoint requests.
type Security int

const (
	// Unspecified: the endpoint has no scheme, or one that does not determine it.
	Unspecified Security = iota
	// Plaintext: http://.
	Plaintext
	// TLS: https://.
	TLS
)

// Endpoint is a host and a port.
type Endpoint struct {
	// Host is a host name, or an IP address without brackets.
	Host string
	// Port is 1 to 65535.
	Port string
}

// String returns host:port for dialing.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, e.Port) }

// Authority returns host:port for TLS verification and :authority, without the zone of an address and without the
// trailing dot of a name.
func (e Endpoint) Authority() string {
	host, _, _ := strings.Cut(e.Host, "%")
	return net.JoinHostPort(strings.TrimSuffix(host, "."), e.Port)
}

// IsAddress reports whether the host is an IP address, which needs no DNS lookup.
func (e Endpoint) IsAddress() bool {
	_, err := netip.ParseAddr(e.Host)
	return err == nil
}

const formatHint = "use host:port, dns:///host:port, http://host:port or https://host:port"

// Parse parses endpoints. Each text may hold several, separated by commas. All must agree on TLS.
func Parse(texts []string) ([]Endpoint, Security, error) {
	var parsed []Endpoint
	seen := map[Security]string{}
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			endpoint, security, err := parse(part)
			if err != nil {
				return nil, Unspecified, fmt.Errorf("endpoint %q: %w; %s", part, err, formatHint)
			}
			parsed = append(parsed, endpoint)
			seen[security] = part
		}
	}
	if len(parsed) == 0 {
		return nil, Unspecified, fmt.Errorf("endpoints: the list is empty; %s", formatHint)
	}
	secure, isSecure := seen[TLS]
	for _, other := range []Security{Plaintext, Unspecified} {
		if plain, isPlain := seen[other]; isSecure && isPlain {
			return nil, Unspecified, fmt.Errorf("endpoints: %q uses TLS but %q does not; use https:// for all or for none", secure, plain)
		}
	}
	switch {
	case isSecure:
		return parsed, TLS, nil
	case seen[Plaintext] != "":
		return parsed, Plaintext, nil
	default:
		return parsed, Unspecified, nil
	}
}

func parse(text string) (Endpoint, Security, error) {
	if text == "" {
		return Endpoint{}, Unspecified, errors.New("is empty")
	}
	security, rest := Unspecified, text
	if scheme, after, found := strings.Cut(text, "://"); found {
		switch rest = after; strings.ToLower(scheme) {
		case "http":
			security, rest = Plaintext, strings.TrimSuffix(after, "/")
		case "https":
			security, rest = TLS, strings.TrimSuffix(after, "/")
		case "dns":
			var local bool
			if rest, local = strings.CutPrefix(after, "/"); !local {
				return Endpoint{}, Unspecified, errors.New("specifies a DNS server, which is not supported")
			}
		default:
			return Endpoint{}, Unspecified, fmt.Errorf("has the unknown scheme %q", scheme)
		}
	}
	endpoint, err := parseHostPort(rest)
	return endpoint, security, err
}

func parseHostPort(text string) (Endpoint, error) {
	switch {
	case strings.ContainsAny(text, "/?#"):
		return Endpoint{}, errors.New("has a path")
	case strings.Contains(text, "@"):
		return Endpoint{}, errors.New("has a user")
	case strings.Count(text, ":") > 1 && !strings.HasPrefix(text, "["):
		return Endpoint{}, errors.New("has an IPv6 address without brackets, such as [::1]:50051")
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || port == "" {
		return Endpoint{}, errors.New("has no host or no port")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || port[0] == '+' {
		return Endpoint{}, fmt.Errorf("has the port %q, which is not 1 to 65535", port)
	}
	address, err := netip.ParseAddr(host)
	switch bracketed := strings.HasPrefix(text, "["); {
	case bracketed && (err != nil || !address.Is6()):
		return Endpoint{}, errors.New("has brackets, but not around an IPv6 address")
	case err != nil && !isHostName(host):
		return Endpoint{}, fmt.Errorf("has the host %q, which is neither a host name nor an IP address", host)
	}
	return Endpoint{Host: host, Port: port}, nil
}

// isHostName reports whether a text is a valid host name.
func isHostName(host string) bool {
	if len(host) > 254 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, char := range []byte(label) {
			switch {
			case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9', char == '-', char == '_':
			default:
				return false
			}
		}
	}
	return true
}

// ValidHost reports whether a text is a host name or an IP address, without a port.
func ValidHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || isHostName(text)
}
