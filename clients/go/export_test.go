package tenantauth

import "context"

// WithLookup replaces DNS lookups in tests.
func WithLookup(lookup func(ctx context.Context, host string) ([]string, error)) Option {
	return func(o *options) { o.lookup = lookup }
}
