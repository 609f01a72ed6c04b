package tenantauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// maxCost is the contract's maximum amount of a cost.
const maxCost = 1_000_000_000

// LocalLimiter takes amounts of one metric from the limits of keys without a call for each request. For each key in use it
// reserves a chunk in advance, about 2 s of what the key takes, and spends it locally while the key is valid. It never admits
// more than it has reserved.
//
// An amount counts when it is reserved, up to 28 s before it is spent. Use a limiter for quotas and credits, not for rates or
// for windows of a few minutes. What is not spent is given back after 28 s and when the limiter is closed; until then it
// counts as used for everybody else. Decisions are as fresh as those of the near cache, which it needs.
type LocalLimiter struct {
	client *Client
	metric string
	// background are the reservations and settlements in flight; stop ends them.
	background sync.WaitGroup
	ctx        context.Context
	stop       context.CancelFunc

	mu      sync.Mutex
	closed  bool
	leases  map[near.Digest]*localLease
	sweptAt time.Time
	// lost is the error of the last chunk that could not be settled.
	lost error
}

// NewLocalLimiter creates a limiter for one metric. Close it before the client, or the client closes it. The error is
// [ErrInvalid] if the client has no near cache or if the metric cannot be the name of one.
func (c *Client) NewLocalLimiter(metric string) (*LocalLimiter, error) {
	if !isMetric(metric) {
		return nil, invalidField("metric", "must be a lower-case letter and up to 63 characters of a-z 0-9 _ .")
	}
	if c.cache == nil {
		return nil, invalidField("client", "has no near cache, which a local limiter needs; remove WithoutNearCache")
	}
	ctx, stop := context.WithCancel(context.Background())
	made := &LocalLimiter{client: c, metric: metric, ctx: ctx, stop: stop, leases: map[near.Digest]*localLease{}, sweptAt: c.options.clock.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate.isClosed() {
		stop()
		return nil, closedError()
	}
	c.limiters[made] = struct{}{}
	return made, nil
}

// Consume takes an amount, 1 to 1,000,000,000, from the limits of a key. It validates the key through the near cache, and
// calls the service only if not enough is left of what was reserved for the key. If a limit denies the request, Limits of the
// result are set. A refusal of the service is remembered for at most one second.
func (l *LocalLimiter) Consume(ctx context.Context, query KeyQuery, amount int64) (ConsumeResult, error) {
	c := l.client
	if amount < 1 || amount > maxCost {
		return ConsumeResult{}, invalidField("amount", fmt.Sprintf("is %d; must be 1 to %d", amount, int64(maxCost)))
	}
	if query.ClientAddress != "" {
		ctx = ContextWithClientAddressText(ctx, query.ClientAddress)
	}
	for {
		validation, err := c.ValidateKey(ctx, query.Key, query.Scopes...)
		if err != nil {
			return ConsumeResult{}, err
		}
		result := ConsumeResult{Verdict: validation.Verdict, Validation: SessionValidation{Validation: validation}}
		digest := c.keyDigest(query.Key)
		if !validation.IsValid() {
			if !isOfRequest(validation.Verdict) {
				l.drop(digest)
			}
			return result, nil
		}
		waiting, err := l.takeOrWait(ctx, digest, query.Key, amount)
		if waiting == nil {
			if err != nil {
				return ConsumeResult{}, err
			}
			return result, nil
		}
		if isAgain, err := l.await(ctx, digest, waiting, &result); !isAgain {
			return result, err
		}
	}
}

// isOfRequest reports whether a denial concerns the request rather than the key.
func isOfRequest(verdict Verdict) bool {
	return verdict == InsufficientScope || verdict == AddressRequired || verdict == AddressNotAllowed
}

// drop gives back everything that is held for a key.
func (l *LocalLimiter) drop(digest near.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked(digest)
}

func (l *LocalLimiter) dropLocked(digest near.Digest) {
	lease := l.leases[digest]
	if lease == nil {
		return
	}
	delete(l.leases, digest)
	for _, held := range lease.chunks {
		l.settleLater(held)
	}
	lease.chunks = nil
	lease.endAll(waitOutcome{isAgain: true})
}

// sweep forgets keys that are not in use. The lock must be held.
func (l *LocalLimiter) sweep() {
	now := l.client.options.clock.Now()
	if now.Sub(l.sweptAt) < chunkExpiresIn {
		return
	}
	l.sweptAt = now
	for digest, lease := range l.leases {
		if len(lease.chunks) == 0 && !lease.isFetching && now.Sub(lease.usedAt) >= chunkExpiresIn {
			delete(l.leases, digest)
		}
	}
}

// Close rejects new requests with [ErrClosed], and gives back everything that is held. If the context ends first or a chunk
// cannot be settled, the chunk counts as used, and Close returns the error.
func (l *LocalLimiter) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	for digest := range l.leases {
		l.dropLocked(digest)
	}
	l.mu.Unlock()
	l.client.mu.Lock()
	delete(l.client.limiters, l)
	l.client.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		l.background.Wait()
		close(finished)
	}()
	var err error
	select {
	case <-finished:
	case <-ctx.Done():
		err = contextError(ctx.Err())
		l.stop()
		<-finished
	}
	l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.lost)
}
