package near

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Request identifies a request without containing its secrets.
type Request struct {
	// Digest is the digest of the request.
	Digest Digest
}

// Result is an answer, with where it comes from.
type Result[V any] struct {
	Value V
	// FromCache reports whether the answer was cached.
	FromCache bool
	// Age is the time since the request.
	Age time.Duration
	// Period is the live period of the stream in which the request was sent; 0 for none. See [Cache.ReportsChangesAfter].
	Period int
}

// inFlightRequest is one request in flight, shared by all callers that need it.
type inFlightRequest[V any] struct {
	digest      Digest
	requestedAt time.Time
	epoch       int
	// deadline is the time at which the request is given up, by the system clock.
	deadline time.Time
	// maxRevision is the highest revision invalidated while the request was in flight.
	maxRevision int64
	// localChanges are the subjects that this client has changed while the request was in flight.
	localChanges []Subject
	// uncacheable answers are returned to their callers but not stored.
	uncacheable bool
	// lastErr is the error of the attempt before the current one.
	lastErr error

	done  chan struct{}
	value V
	err   error
}

// GetOrRequest returns the cached answer, joins an identical request in flight, or starts a request. A caller that
// gives up does not affect the others.
func (c *Cache[V]) GetOrRequest(ctx context.Context, request Request, send func(context.Context) (Answer[V], error)) (Result[V], error) {
	for {
		joined, known := c.startOrJoin(ctx, request, send)
		if joined == nil {
			return known, nil
		}
		select {
		case <-joined.done:
		case <-ctx.Done():
			return Result[V]{}, c.waitError(ctx, joined)
		}
		if joined.err == nil {
			return Result[V]{Value: joined.value, Period: joined.epoch}, nil
		}
		if !hasMoreTime(ctx, joined) {
			return Result[V]{}, joined.err
		}
	}
}

// waitError is the error of a caller that stopped waiting. If an attempt has failed, its error says more than "deadline
// exceeded".
func (c *Cache[V]) waitError(ctx context.Context, joined *inFlightRequest[V]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if joined.lastErr != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return joined.lastErr
	}
	return ctx.Err()
}

type retryReportKey struct{}

// ReportRetry tells the callers that wait for the request of this context that an attempt has failed and will be
// retried.
func ReportRetry(ctx context.Context, err error) {
	if note, ok := ctx.Value(retryReportKey{}).(func(error)); ok {
		note(err)
	}
}

// hasMoreTime reports whether the request timed out and the caller still has time.
func hasMoreTime[V any](ctx context.Context, joined *inFlightRequest[V]) bool {
	deadline, ok := ctx.Deadline()
	return ok && deadline.After(joined.deadline) && errors.Is(joined.err, context.DeadlineExceeded) && ctx.Err() == nil
}

// Get returns the cached answer.
func (c *Cache[V]) Get(digest Digest) (Result[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if found := c.lookup(digest, now); found != nil {
		return found.result(now), true
	}
	return Result[V]{}, false
}

// startOrJoin returns a cached answer, joins a request in flight, or starts one. It holds the lock throughout, so that
// no caller starts a request just after its answer arrived.
func (c *Cache[V]) startOrJoin(ctx context.Context, request Request, send func(context.Context) (Answer[V], error)) (*inFlightRequest[V], Result[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if found := c.lookup(request.Digest, now); found != nil {
		return nil, found.result(now)
	}
	if joined, ok := c.joinable[request.Digest]; ok {
		return joined, Result[V]{}
	}
	timeout := c.config.MinTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(timeout, time.Until(deadline))
	}
	// The cancellation of the first caller must not affect the others. The values of its context are kept, for tracing.
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	deadline, _ := detached.Deadline()
	started := &inFlightRequest[V]{
		digest:      request.Digest,
		requestedAt: now,
		epoch:       c.liveness.currentEpoch(now),
		deadline:    deadline,
		done:        make(chan struct{}),
	}
	detached = context.WithValue(detached, retryReportKey{}, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		started.lastErr = err
	})
	c.joinable[request.Digest] = started
	c.inFlight[started] = struct{}{}
	go func() {
		defer cancel()
		answer, err := send(detached)
		c.finish(started, answer, err)
	}()
	return started, Result[V]{}
}

func (c *Cache[V]) finish(request *inFlightRequest[V], answer Answer[V], err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inFlight, request)
	if c.joinable[request.digest] == request {
		delete(c.joinable, request.digest)
	}
	request.value, request.err = answer.Value, err
	close(request.done)
	if err != nil || max(answer.CacheableFor, answer.WhileWatched) <= 0 || request.uncacheable || c.isSuperseded(request, &answer) {
		return
	}
	c.store(&entry[V]{digest: request.digest, answer: answer, requestedAt: request.requestedAt, epoch: request.epoch})
}

// isSuperseded reports whether a newer change is known than the answer reflects.
func (c *Cache[V]) isSuperseded(request *inFlightRequest[V], answer *Answer[V]) bool {
	if c.marks.isOutdated(answer.Subjects, answer.Revision) {
		return true
	}
	if len(request.localChanges) > 0 && (len(answer.Subjects) == 0 || slices.ContainsFunc(request.localChanges, func(changed Subject) bool {
		return slices.Contains(answer.Subjects, changed)
	})) {
		return true
	}
	belowEvicted := answer.Revision < c.marks.maxEvicted
	if len(answer.Subjects) == 0 || belowEvicted {
		// It is unknown whether the changes during the request concern this answer: assume that they do.
		if answer.Revision < request.maxRevision {
			return true
		}
	}
	if belowEvicted {
		// The lifetime without the stream still applies. A longer one is not known to be safe.
		answer.WhileWatched = 0
	}
	return false
}
