package fake

import (
	"context"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// AddressRecorder admits each key, and records the customer's address of the last call.
type AddressRecorder struct{ Address string }

// ValidateKey returns a valid answer.
func (a *AddressRecorder) ValidateKey(ctx context.Context, _ tenantauth.Key, _ ...string) (tenantauth.Validation, error) {
	a.Address = AddressOf(ctx)
	return tenantauth.Validation{Verdict: tenantauth.Valid}, nil
}

// AddressOf returns the customer's address in a context, or "none".
func AddressOf(ctx context.Context) string {
	if address, ok := tenantauth.ClientAddressFrom(ctx); ok {
		return address.String()
	}
	return "none"
}
