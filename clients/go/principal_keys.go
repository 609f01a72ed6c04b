package tenantauth

import (
	"context"
	"sync"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/principal"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const (
	// principalKeysMaxAge is the age at which a set is refreshed. It stays in use meanwhile.
	principalKeysMaxAge = 5 * time.Minute
	// principalKeysInterval is the minimum time between two requests, however many tokens name unknown keys.
	principalKeysInterval = 5 * time.Second
	// firstPrincipalKeysInterval replaces it while there is no set, because nothing can be verified meanwhile.
	firstPrincipalKeysInterval = time.Second
)

// principalKeySet is the key set of one response. It is immutable: the issuer and its keys belong together.
type principalKeySet struct {
	issuer      string
	keys        map[string]principal.Key
	requestedAt time.Time
}

// principalKeys requests and keeps the keys that verify principal tokens.
type principalKeys struct {
	mu sync.Mutex
	// set is nil before the first usable response. A response without a usable key never replaces it.
	set *principalKeySet
	// requestedAt is the start of the last request; zero before the first.
	requestedAt time.Time
	// err is the error of the last completed request; nil if it returned a usable set.
	err error
	// inFlight is closed at the end of the request in flight; nil if there is none.
	inFlight chan struct{}
}

// principalKey returns a key and its issuer. known is false if the service has no such key. An error means that it is
// unknown whether it has.
func (c *Client) principalKey(ctx context.Context, id string) (key principal.Key, issuer string, known bool, err error) {
	k := &c.principalKeys
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, issuer, known = k.find(id); known {
		if c.options.clock.Now().Sub(k.set.requestedAt) > principalKeysMaxAge {
			_ = c.requestPrincipalKeys(ctx)
		}
		return key, issuer, true, nil
	}
	if err := c.requestPrincipalKeys(ctx); err != nil {
		return key, "", false, err
	}
	if done := k.inFlight; done != nil {
		k.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			err = contextError(ctx.Err())
		}
		k.mu.Lock()
		if err != nil {
			return key, "", false, err
		}
	}
	if key, issuer, known = k.find(id); known {
		return key, issuer, true, nil
	}
	return key, "", false, k.err
}

// find must be called with the lock held.
func (k *principalKeys) find(id string) (key principal.Key, issuer string, known bool) {
	if k.set == nil {
		return key, "", false
	}
	key, known = k.set.keys[id]
	return key, k.set.issuer, known
}

// requestPrincipalKeys starts a request, unless one is in flight or the last one is too recent. It must be called with
// the lock held.
func (c *Client) requestPrincipalKeys(ctx context.Context) error {
	k := &c.principalKeys
	interval, now := principalKeysInterval, c.options.clock.Now()
	if k.set == nil {
		interval = firstPrincipalKeysInterval
	}
	if k.inFlight != nil || !k.requestedAt.IsZero() && now.Sub(k.requestedAt) < interval {
		return nil
	}
	// The gate stays entered until the request ends, so that closing the client waits for it.
	if err := c.gate.enter(); err != nil {
		return err
	}
	k.requestedAt, k.inFlight = now, make(chan struct{})
	// The cancellation of the first caller must not affect the others. The values of its context are kept, for tracing.
	go c.fetchPrincipalKeys(context.WithoutCancel(ctx), now)
	return nil
}

func (c *Client) fetchPrincipalKeys(ctx context.Context, now time.Time) {
	defer c.gate.leave()
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.GetPrincipalKeysRequest, *tenantauthv1.GetPrincipalKeysResponse]{
		call: tenantauthv1.NewInfoServiceClient(c.conn).GetPrincipalKeys, request: &tenantauthv1.GetPrincipalKeysRequest{}, readOnly: true,
	})
	fresh := &principalKeySet{issuer: reply.GetIssuer(), keys: principal.ParseKeys(reply.GetJwks()), requestedAt: now}
	if err == nil && (fresh.issuer == "" || len(fresh.keys) == 0) {
		err = noPrincipalKeys()
	}
	k := &c.principalKeys
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err = err; err == nil {
		k.set = fresh
	} else if k.set != nil {
		c.options.logger.Warn("tenant-auth: keys of principal tokens not refreshed; the previous ones stay in use", "error", err)
	}
	close(k.inFlight)
	k.inFlight = nil
}
