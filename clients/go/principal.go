package tenantauth

import (
	"context"
	"slices"
)

// Principal identifies the customer of a request: what a handler needs to know about an admitted key.
//
// A principal that was admitted by a client also keeps the key for [Client.Guard]. The key is never printed or encoded.
type Principal struct {
	// TenantID is the id of the tenant that owns the key.
	TenantID string
	// TenantName is the tenant's display name.
	TenantName string
	// Plan is the tenant's plan, a label that the service does not interpret.
	Plan string
	// KeyID is the key's public id. It is safe to log.
	KeyID string
	// Scopes are all scopes that the key holds, sorted.
	Scopes []string

	// credential is nil for principals that were not admitted by a client.
	credential hidden
}

// Has reports whether the key holds a scope. Scopes are compared exactly: * is not a wildcard.
func (p Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }

type principalKey struct{}

// ContextWithPrincipal returns a context that carries the principal.
func ContextWithPrincipal(ctx context.Context, principal Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

// PrincipalFrom returns the principal that a middleware or an interceptor added to the context.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	principal, ok := ctx.Value(principalKey{}).(Principal)
	return principal, ok
}
