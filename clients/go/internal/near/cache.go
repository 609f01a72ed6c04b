// Package near is the memory of a client: what was answered, for how long that may be relied on, and who is asking.
package near

import (
	"sync"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

// Answer is what came back, with all that decides about its reuse.
type Answer[V any] struct {
	Value V
	// CacheableFor is how long it may be reused, counted from before the question was sent. Zero: not at all.
	CacheableFor time.Duration
	// WhileWatched is the same while the stream of invalidations lives.
	WhileWatched time.Duration
	// Revision is the position in the change log that it reflects.
	Revision int64
	// About are the things that it depends on; none for the absence of a key, which any change may end.
	About []Subject
	// Strange answers are about what the service does not know. They have a share of their own, so that who makes up keys
	// pushes out no others.
	Strange bool
}

// strangersShare is the part of the entries that is there for strange answers, beside the others.
const strangersShare = 10

// Config are the bounds of a cache.
type Config struct {
	// Entries is how many answers are kept.
	Entries int
	// WatchedFor bounds how long answers are reused while the stream lives.
	WatchedFor time.Duration
	// Patience is how long a question may take at least, even if the one who asked first gives up sooner.
	Patience time.Duration
}

// Cache remembers answers and joins those who ask the same at the same time.
type Cache[V any] struct {
	clock  clock.Clock
	config Config

	mu sync.Mutex
	// strangers are the answers that are strange.
	held, strangers entries[V]
	floors          floors
	pulse           pulse
	flights         map[Digest]*flight[V]
	// running are all flights, also those that nobody may join any more.
	running map[*flight[V]]struct{}
}

// New is an empty cache.
func New[V any](clock clock.Clock, config Config) *Cache[V] {
	cache := &Cache[V]{
		clock:   clock,
		config:  config,
		floors:  newFloors(),
		flights: map[Digest]*flight[V]{},
		running: map[*flight[V]]struct{}{},
	}
	cache.held.init(config.Entries)
	cache.strangers.init(max(1, config.Entries/strangersShare))
	return cache
}

// find is to be called with the lock held.
func (c *Cache[V]) find(digest Digest, now time.Time) *entry[V] {
	from := &c.held
	found, ok := from.all[digest]
	if !ok {
		from = &c.strangers
		if found, ok = from.all[digest]; !ok {
			return nil
		}
	}
	if !c.usable(found, now) {
		from.drop(found)
		return nil
	}
	from.used(found)
	return found
}

// remember is to be called with the lock held. An answer that took its time does not replace one that was asked for after it.
func (c *Cache[V]) remember(fresh *entry[V]) {
	into, other := &c.held, &c.strangers
	if fresh.answer.Strange {
		into, other = other, into
	}
	if present, ok := other.all[fresh.digest]; ok {
		if present.asked.After(fresh.asked) {
			return
		}
		other.drop(present)
	}
	into.put(fresh)
}

// forget is to be called with the lock held.
func (c *Cache[V]) forget(subject Subject, which func(*entry[V]) bool) {
	for _, from := range []*entries[V]{&c.held, &c.strangers} {
		for held := range from.about[subject] {
			if which(held) {
				from.drop(held)
			}
		}
	}
}

func (c *Cache[V]) usable(e *entry[V], now time.Time) bool {
	age := now.Sub(e.asked)
	if age < e.answer.CacheableFor {
		return true
	}
	return age < min(e.answer.WhileWatched, c.config.WatchedFor) &&
		e.life != 0 && e.life == c.pulse.current(now) && e.answer.Revision >= c.pulse.began
}

// Heard is to be called for each word of the stream: after what it says was heeded.
func (c *Cache[V]) Heard(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulse.hear(c.clock.Now(), revision)
}

// Broken is to be called when the stream ended in a way after which changes may have been missed.
func (c *Cache[V]) Broken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulse.end()
}

// Watched tells whether the stream lives, and the last revision it told of.
func (c *Cache[V]) Watched() (live bool, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pulse.live(c.clock.Now()), c.pulse.revision
}

// Invalidate forgets what was answered about a thing before a revision, and does not learn it anew from questions that
// were under way.
func (c *Cache[V]) Invalidate(subject Subject, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floors.raise(subject, revision)
	c.forget(subject, func(held *entry[V]) bool { return held.answer.Revision < revision })
	for flight := range c.running {
		flight.fence = max(flight.fence, revision)
	}
	// Whoever asks from now on must not get an answer from before.
	clear(c.flights)
}

// StartOver forgets everything: nobody knows what has changed.
func (c *Cache[V]) StartOver(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetAll()
	c.floors = newFloors()
	c.pulse.end()
	// The log may have begun anew, below what was heard before.
	c.pulse.revision = revision
}

// Forget forgets what was answered about a thing that this client itself has just tried to change. Questions under way
// are answered, and not remembered if they turn out to be about it; whoever asks from now on asks anew.
func (c *Cache[V]) Forget(subject Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(subject, func(*entry[V]) bool { return true })
	for _, stranger := range c.strangers.all {
		// What was not there may have been made by that change.
		if len(stranger.answer.About) == 0 {
			c.strangers.drop(stranger)
		}
	}
	for flight := range c.running {
		flight.changed = append(flight.changed, subject)
	}
	clear(c.flights)
}

// ForgetAll is Forget for a change of things that are not known.
func (c *Cache[V]) ForgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetAll()
}

func (c *Cache[V]) forgetAll() {
	c.held.clear()
	c.strangers.clear()
	for flight := range c.running {
		flight.void = true
	}
	clear(c.flights)
}

// Len is how many answers are kept.
func (c *Cache[V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held.all) + len(c.strangers.all)
}
