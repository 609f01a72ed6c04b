package tenantauth

import (
	"context"
	"net/netip"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/address"
)

// clientAddress is the network address of a customer, as a context carries it.
type clientAddress struct {
	// plain is the zero address if there is none.
	plain netip.Addr
	// isInvalid is true for a text that is not an address.
	isInvalid bool
}

type clientAddressKey struct{}

// ContextWithClientAddress returns a context that carries the network address of the customer. The service and the near
// cache compare it with the networks of keys that may be used from certain networks only. The zero address means that
// there is none.
//
// Use the address of the connection, or one from a header of a proxy that you trust; never one from a header that the
// customer can set. The packages httpauth and grpcauth do this for each request.
func ContextWithClientAddress(ctx context.Context, address netip.Addr) context.Context {
	return withClientAddress(ctx, fromAddr(address))
}

// ContextWithClientAddressText is [ContextWithClientAddress] for an address as text, such as the RemoteAddr of an HTTP
// request: IPv4 or IPv6, with or without a port, IPv6 also in brackets and with a zone. The empty text means that there
// is no address. Calls with any other text fail with [ErrInvalid].
func ContextWithClientAddressText(ctx context.Context, text string) context.Context {
	return withClientAddress(ctx, fromText(text))
}

// ClientAddressFrom returns the network address of the customer that the context carries, without a zone. An IPv4-mapped
// IPv6 address is returned as the IPv4 address.
func ClientAddressFrom(ctx context.Context) (netip.Addr, bool) {
	carried := clientAddressOf(ctx)
	return carried.plain, carried.plain.IsValid()
}

func withClientAddress(ctx context.Context, carried clientAddress) context.Context {
	return context.WithValue(ctx, clientAddressKey{}, carried)
}

func clientAddressOf(ctx context.Context) clientAddress {
	carried, _ := ctx.Value(clientAddressKey{}).(clientAddress)
	return carried
}

func fromAddr(given netip.Addr) clientAddress { return clientAddress{plain: address.Plain(given)} }

func fromText(text string) clientAddress {
	if text == "" {
		return clientAddress{}
	}
	plain, ok := address.Parse(text)
	return clientAddress{plain: plain, isInvalid: !ok}
}

// err returns the error of a call with this address.
func (a clientAddress) err() error {
	if !a.isInvalid {
		return nil
	}
	return invalidField("client_address",
		"must be an IPv4 or IPv6 address, such as 192.0.2.7, 192.0.2.7:443, 2001:db8::7 or [2001:db8::7]:443")
}

// wire returns the address as text for a request.
func (a clientAddress) wire() string {
	if !a.plain.IsValid() {
		return ""
	}
	return a.plain.String()
}
