// Package endpoints reads the endpoints of the service.
package endpoints

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Security is what the schemes of endpoints say about TLS.
type Security int

const (
	// Unsaid: there is no scheme that speaks of it.
	Unsaid Security = iota
	// Plaintext: http://.
	Plaintext
	// TLS: https://.
	TLS
)

// Endpoint is a host and a port.
type Endpoint struct {
	// Host is a name, or an address without brackets.
	Host string
	// Port is 1 to 65535.
	Port string
}

// String is host:port, as dialed.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, e.Port) }

// Authority is host:port as a server is called, without the zone of an address.
func (e Endpoint) Authority() string {
	host, _, _ := strings.Cut(e.Host, "%")
	return net.JoinHostPort(strings.TrimSuffix(host, "."), e.Port)
}

// Literal tells whether the host is an address, which needs no lookup.
func (e Endpoint) Literal() bool {
	_, err := netip.ParseAddr(e.Host)
	return err == nil
}

const forms = "use host:port, dns:///host:port, http://host:port or https://host:port"

// Parse reads endpoints. Each text may hold several, separated by commas. All must agree on TLS.
func Parse(texts []string) ([]Endpoint, Security, error) {
	var parsed []Endpoint
	said := map[Security]string{}
	for _, text := range texts {
		for part := range strings.SplitSeq(text, ",") {
			endpoint, security, err := parse(part)
			if err != nil {
				return nil, Unsaid, fmt.Errorf("endpoint %q: %w; %s", part, err, forms)
			}
			parsed = append(parsed, endpoint)
			said[security] = part
		}
	}
	if len(parsed) == 0 {
		return nil, Unsaid, fmt.Errorf("endpoints: there are none; %s", forms)
	}
	secure, isSecure := said[TLS]
	for _, other := range []Security{Plaintext, Unsaid} {
		if plain, isPlain := said[other]; isSecure && isPlain {
			return nil, Unsaid, fmt.Errorf("endpoints: %q is TLS and %q is not; use https:// for all or for none", secure, plain)
		}
	}
	switch {
	case isSecure:
		return parsed, TLS, nil
	case said[Plaintext] != "":
		return parsed, Plaintext, nil
	default:
		return parsed, Unsaid, nil
	}
}

func parse(text string) (Endpoint, Security, error) {
	if text == "" {
		return Endpoint{}, Unsaid, errors.New("is empty")
	}
	security, rest := Unsaid, text
	if scheme, after, found := strings.Cut(text, "://"); found {
		switch rest = after; strings.ToLower(scheme) {
		case "http":
			security, rest = Plaintext, strings.TrimSuffix(after, "/")
		case "https":
			security, rest = TLS, strings.TrimSuffix(after, "/")
		case "dns":
			var local bool
			if rest, local = strings.CutPrefix(after, "/"); !local {
				return Endpoint{}, Unsaid, errors.New("names a DNS server, which is not supported")
			}
		default:
			return Endpoint{}, Unsaid, fmt.Errorf("has the unknown scheme %q", scheme)
		}
	}
	endpoint, err := split(rest)
	return endpoint, security, err
}

func split(text string) (Endpoint, error) {
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
		return Endpoint{}, errors.New("lacks a host or a port")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || port[0] == '+' {
		return Endpoint{}, fmt.Errorf("has the port %q, which is not 1 to 65535", port)
	}
	address, err := netip.ParseAddr(host)
	switch bracketed := strings.HasPrefix(text, "["); {
	case bracketed && (err != nil || !address.Is6()):
		return Endpoint{}, errors.New("has brackets around what is no IPv6 address")
	case err != nil && !name(host):
		return Endpoint{}, fmt.Errorf("has the host %q, which is neither a name nor an address", host)
	}
	return Endpoint{Host: host, Port: port}, nil
}

// name tells whether a text can be the name of a host.
func name(host string) bool {
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

// ValidHost tells whether a text is a name or an address, without a port.
func ValidHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || name(text)
}
