package tenantauth

import "context"

// WithLookup finds the addresses of names in the test instead of by DNS.
func WithLookup(lookup func(ctx context.Context, host string) ([]string, error)) Option {
	return func(o *options) { o.lookup = lookup }
}
