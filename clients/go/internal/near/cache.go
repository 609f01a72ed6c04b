// Package near is the near cache of a client: it caches answers, merges identical concurrent requests, and applies
// invalidations.
package near

import (
	"sync"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

// Answer is the result of a request, with everything that determines how long it may be cached.
type Answer[V any] struct {
	Value V
	// CacheableFor is how long the answer may be cached, counted from before the request was sent. Zero: not at all.
	CacheableFor time.Duration
	// WhileWatched is how long it may be cached while the watch stream is live.
	WhileWatched time.Duration
	// Revision is the change-log revision that the answer reflects.
	Revision int64
	// Subjects are the subjects that the answer depends on. The list is empty for a negative answer, which any change
	// may invalidate.
	Subjects []Subject
	// Negative answers are about keys or sessions that the service does not know. They have a limit of their own, so
	// that requests with invented keys do not evict other answers.
	Negative bool
}

// negativeShare determines the capacity for negative answers: one per this number of entries, in addition to the
// others.
const negativeShare = 10

// Config holds the limits of a cache.
type Config struct {
	// Entries is the maximum number of cached answers.
	Entries int
	// WatchedFor limits how long answers are cached while the stream is live.
	WatchedFor time.Duration
	// MinTimeout is the minimum timeout of a request, even if the caller that started it gives up sooner.
	MinTimeout time.Duration
}

// Cache caches answers and merges identical concurrent requests.
type Cache[V any] struct {
	clock  clock.Clock
	config Config

	mu sync.Mutex
	// positive and negative are the cached answers; negative holds those with Answer.Negative.
	positive, negative entries[V]
	marks              changeMarks
	liveness           liveness
	joinable           map[Digest]*inFlightRequest[V]
	// inFlight are all requests in flight, including those that new callers must not join.
	inFlight map[*inFlightRequest[V]]struct{}
}

// New creates an empty cache.
func New[V any](clock clock.Clock, config Config) *Cache[V] {
	cache := &Cache[V]{
		clock:    clock,
		config:   config,
		marks:    newChangeMarks(),
		joinable: map[Digest]*inFlightRequest[V]{},
		inFlight: map[*inFlightRequest[V]]struct{}{},
	}
	cache.positive.init(config.Entries)
	cache.negative.init(max(1, config.Entries/negativeShare))
	return cache
}

// lookup must be called with the lock held.
func (c *Cache[V]) lookup(digest Digest, now time.Time) *entry[V] {
	from := &c.positive
	found, ok := from.all[digest]
	if !ok {
		from = &c.negative
		if found, ok = from.all[digest]; !ok {
			return nil
		}
	}
	if !c.isUsable(found, now) {
		from.drop(found)
		return nil
	}
	from.touch(found)
	return found
}

// store must be called with the lock held. A slow answer does not replace one that was requested after it.
func (c *Cache[V]) store(fresh *entry[V]) {
	into, other := &c.positive, &c.negative
	if fresh.answer.Negative {
		into, other = other, into
	}
	if present, ok := other.all[fresh.digest]; ok {
		if present.requestedAt.After(fresh.requestedAt) {
			return
		}
		other.drop(present)
	}
	into.put(fresh)
}

// removeSubject must be called with the lock held.
func (c *Cache[V]) removeSubject(subject Subject, which func(*entry[V]) bool) {
	for _, from := range []*entries[V]{&c.positive, &c.negative} {
		for stored := range from.bySubject[subject] {
			if which(stored) {
				from.drop(stored)
			}
		}
	}
}

func (c *Cache[V]) isUsable(e *entry[V], now time.Time) bool {
	age := now.Sub(e.requestedAt)
	if age < e.answer.CacheableFor {
		return true
	}
	return age < min(e.answer.WhileWatched, c.config.WatchedFor) && c.liveness.reportsChangesAfter(e.epoch, e.answer.Revision, now)
}

// RecordEvent must be called after each event of the stream has been applied.
func (c *Cache[V]) RecordEvent(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.liveness.recordEvent(c.clock.Now(), revision)
}

// MarkBroken must be called if the stream ended in a way that may have missed changes.
func (c *Cache[V]) MarkBroken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.liveness.markBroken()
}

// WatchState reports whether the stream is live, and its last revision.
func (c *Cache[V]) WatchState() (live bool, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.liveness.isLive(c.clock.Now()), c.liveness.revision
}

// LivePeriod returns the number of the current live period of the stream, and the time after which it ends if no event
// arrives; 0 if the stream is not live.
func (c *Cache[V]) LivePeriod() (period int, remaining time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	if period = c.liveness.currentEpoch(now); period == 0 {
		return 0, 0
	}
	return period, livenessTimeout - now.Sub(c.liveness.lastEventAt)
}

// ReportsChangesAfter reports whether the stream has reported, and will report as long as it is live, all changes that an
// answer of a period and a revision does not reflect.
func (c *Cache[V]) ReportsChangesAfter(period int, revision int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.liveness.reportsChangesAfter(period, revision, c.clock.Now())
}

// Invalidate removes the answers about a subject that are older than a revision, and prevents requests in flight from
// storing such answers again.
func (c *Cache[V]) Invalidate(subject Subject, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.marks.set(subject, revision)
	c.removeSubject(subject, func(stored *entry[V]) bool { return stored.answer.Revision < revision })
	for request := range c.inFlight {
		request.maxRevision = max(request.maxRevision, revision)
	}
	// A request that starts from now on must not get an answer from before the change.
	clear(c.joinable)
}

// IsOutdated reports whether a change of one of the subjects is known that a statement of the given revision does not
// reflect. Changes before the last [Cache.StartOver] are not known.
func (c *Cache[V]) IsOutdated(revision int64, subjects ...Subject) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.marks.isOutdated(subjects, revision)
}

// StartOver clears the cache, because it is unknown what has changed.
func (c *Cache[V]) StartOver(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	c.marks = newChangeMarks()
	c.liveness.markBroken()
	// A new change log may start below the last revision.
	c.liveness.revision = revision
}

// InvalidateLocal removes the answers about a subject that this client itself has tried to change. Requests in flight
// still return their answers to their callers but do not store them if they concern the subject. New callers start new
// requests.
func (c *Cache[V]) InvalidateLocal(subject Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeSubject(subject, func(*entry[V]) bool { return true })
	for _, stored := range c.negative.all {
		// The change may have created what did not exist before.
		if len(stored.answer.Subjects) == 0 {
			c.negative.drop(stored)
		}
	}
	for request := range c.inFlight {
		request.localChanges = append(request.localChanges, subject)
	}
	clear(c.joinable)
}

// Clear is InvalidateLocal for a change of unknown subjects.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

func (c *Cache[V]) clear() {
	c.positive.clear()
	c.negative.clear()
	for request := range c.inFlight {
		request.uncacheable = true
	}
	clear(c.joinable)
}

// Len returns the number of cached answers.
func (c *Cache[V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.positive.all) + len(c.negative.all)
}
