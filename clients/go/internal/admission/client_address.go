package admission

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/address"
)

const forwardedFor = "x-forwarded-for"

// ClientAddress determines the network address of the customer of a request.
type ClientAddress struct {
	// trusted are the networks of the proxies whose header is read.
	trusted []netip.Prefix
	// header is the name of that header, in lower case; empty for X-Forwarded-For.
	header string
}

// Trust adds networks or addresses of proxies, as text.
func (c *ClientAddress) Trust(proxies ...string) error {
	for _, text := range proxies {
		network, ok := address.ParseNetwork(text)
		if !ok {
			return fmt.Errorf("WithTrustedProxies(%.100q): must be a network, such as 10.0.0.0/8 or 2001:db8::/32, or an address", text)
		}
		if network != network.Masked() {
			// It is unknown whether the whole network is meant, or one address. The wrong guess would trust strangers.
			return fmt.Errorf("WithTrustedProxies(%q): the network is %v; for one address, omit the prefix length", text, network.Masked())
		}
		c.trusted = append(c.trusted, network)
	}
	return nil
}

// UseHeader sets the header that the proxies write.
func (c *ClientAddress) UseHeader(header string) error {
	if !isHeaderName(header) {
		return fmt.Errorf("WithClientAddressHeader(%.100q): must be the name of a header, such as CF-Connecting-IP", header)
	}
	c.header = strings.ToLower(header)
	return nil
}

// AddTo returns a context with the address of the customer, for the validation and for the handler's own calls. peer is
// the address of the connection as text, and values returns all values of a header.
func (c *ClientAddress) AddTo(ctx context.Context, peer string, values func(header string) []string) context.Context {
	return tenantauth.ContextWithClientAddress(ctx, c.from(peer, values))
}

// from returns the zero address if the address of the customer is unknown.
func (c *ClientAddress) from(peer string, values func(header string) []string) netip.Addr {
	connected, ok := address.Parse(peer)
	if !ok || !address.IsIn(connected, c.trusted) {
		return connected
	}
	name := c.header
	if name == "" {
		name = forwardedFor
	}
	// Each proxy appends the address that it was called from, so only the entries up to the first address that is not a
	// proxy's are from proxies. Customers can write all others.
	var leftmost netip.Addr
	lines := values(name)
	for index := len(lines) - 1; index >= 0; index-- {
		for rest, more := lines[index], true; more; {
			var entry string
			rest, entry, more = cutLast(rest)
			parsed, ok := address.Parse(strings.Trim(entry, " \t"))
			if !ok {
				return netip.Addr{}
			}
			if !address.IsIn(parsed, c.trusted) {
				return parsed
			}
			leftmost = parsed
		}
	}
	return leftmost
}

// cutLast cuts the last entry off a list.
func cutLast(list string) (rest, entry string, more bool) {
	comma := strings.LastIndexByte(list, ',')
	if comma < 0 {
		return "", list, false
	}
	return list[:comma], list[comma+1:], true
}
