package tenantauth

import "context"

// WithLookup replaces DNS lookups in tests.
func WithLookup(lookup func(ctx context.Context, host string) ([]string, error)) Option {
	return func(o *options) { o.lookup = lookup }
}

// Guards returns the number of guards that a client has, and of the subjects that they depend on.
func Guards(client *Client) (guards, subjects int) {
	registry := client.guards
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, shared := range registry.all {
		guards += len(shared.guards)
	}
	return guards, len(registry.bySubject)
}

// IsChecking reports whether the guards of a client wait for an answer.
func IsChecking(client *Client) bool {
	registry := client.guards
	registry.mu.Lock()
	defer registry.mu.Unlock()
	for _, shared := range registry.all {
		if shared.checking != noCheck {
			return true
		}
	}
	return false
}

// IsReserving reports whether a local limiter waits for a reservation.
func IsReserving(limiter *LocalLimiter) bool {
	limiter.mu.Lock()
	defer limiter.mu.Unlock()
	for _, lease := range limiter.leases {
		if lease.isFetching {
			return true
		}
	}
	return false
}

// Waiting returns the number of requests of a local limiter that wait for a reservation.
func Waiting(limiter *LocalLimiter) (waiting int) {
	limiter.mu.Lock()
	defer limiter.mu.Unlock()
	for _, lease := range limiter.leases {
		waiting += len(lease.waiters)
	}
	return waiting
}
