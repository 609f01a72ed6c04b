package tenantauth

import (
	"context"
	"slices"
)

// Principal is who makes a request: what a handler needs to know of an admitted key.
type Principal struct {
	// TenantID is the tenant that owns the key.
	TenantID string
	// TenantName is the tenant's display name.
	TenantName string
	// Plan is the tenant's plan, an opaque label.
	Plan string
	// KeyID is the key's public id, safe to log.
	KeyID string
	// Scopes are all that the key holds, sorted.
	Scopes []string
}

// Has tells whether the key holds a scope. Scopes match exactly: * has no meaning of its own.
func (p Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }

type principalKey struct{}

// ContextWithPrincipal hands a principal on.
func ContextWithPrincipal(ctx context.Context, principal Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

// PrincipalFrom is the principal that a middleware or an interceptor put there.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	principal, ok := ctx.Value(principalKey{}).(Principal)
	return principal, ok
}
