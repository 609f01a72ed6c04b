package tenantauth

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// maxGuardChecks is the maximum number of concurrent validations for guards. A start-over concerns all keys at once.
const maxGuardChecks = 64

// guardRegistry has all guards of a client, and the subjects that they depend on.
type guardRegistry struct {
	client *Client
	slots  chan struct{}

	mu     sync.Mutex
	closed bool
	all    map[near.Digest]*guardedCredential
	// bySubject is the index of all.
	bySubject map[near.Subject]map[*guardedCredential]struct{}
	// period is the live period of the watch stream that was seen last; 0 for none.
	period int
	// stopMonitor stops the timer for the end of the period.
	stopMonitor func() bool
	// serverAhead is how far the clock of the service is ahead of this one, by the last heartbeat.
	serverAhead     time.Duration
	knowsServerTime bool
}

// guardedCredential is a key, or a session with the key presented with it, that guards share.
type guardedCredential struct {
	credential *credential
	digest     near.Digest
	subjects   []near.Subject
	guards     map[*guard]struct{}
	// ctx ends the check in flight when no guard is left.
	ctx  context.Context
	stop context.CancelFunc

	// checking is the check in flight, and interrupt cancels its requests.
	checking  guardCheck
	interrupt context.CancelFunc
	// again is the check to make after the one in flight.
	again guardCheck
	// expiresAt is the next expiry to check, by the clock of the service; zero for none.
	expiresAt time.Time
	// nextCheck is the time of the next periodic check; zero while the watch stream reports all changes.
	nextCheck time.Time
	// undecidedSince is the start of the first check without a decision, or of the one in flight; zero for none.
	undecidedSince time.Time
	// lastErr is the error of the last check without a decision.
	lastErr error
	// periodicity is the time between two periodic checks.
	periodicity time.Duration
	stopTimer   func() bool
}

func newGuardRegistry(client *Client) *guardRegistry {
	return &guardRegistry{
		client:      client,
		slots:       make(chan struct{}, maxGuardChecks),
		all:         map[near.Digest]*guardedCredential{},
		bySubject:   map[near.Subject]map[*guardedCredential]struct{}{},
		stopMonitor: func() bool { return false },
	}
}

// add registers a guard, and ends it at once if the near cache knows that it may not go on.
func (r *guardRegistry) add(made *guard, principal Principal) error {
	c, credential := r.client, *principal.credential
	digest, subjects := c.keyDigest(credential.key), subjectsOf(principal.TenantID, principal.KeyID, credential.presentedKeyID)
	if credential.session != "" {
		digest = c.sessionDigest(string(credential.session), credential.key)
		subjects = append(subjects, c.sessionSubject(string(credential.session)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return closedError()
	}
	shared, isKnown := r.all[digest]
	if !isKnown {
		shared = &guardedCredential{
			credential: credential, digest: digest, guards: map[*guard]struct{}{}, expiresAt: credential.expiresAt,
			periodicity: periodicityOf(credential.cacheableFor), stopTimer: func() bool { return false },
		}
		shared.ctx, shared.stop = context.WithCancel(context.Background())
		r.all[digest] = shared
		r.index(shared, subjects)
	}
	made.of = shared
	shared.guards[made] = struct{}{}
	r.followStream()
	if c.cache == nil {
		if !isKnown {
			shared.nextCheck = made.since.Add(shared.periodicity)
			r.schedule(shared)
		}
		return nil
	}
	// The subjects are registered by now: the watch stream reports all changes that this answer does not reflect.
	switch answer, isCached := c.cache.Get(digest); {
	case !isCached:
		r.start(shared, periodicCheck)
	case isKnown:
		if !made.evaluate(answer) {
			r.drop(made)
		}
	default:
		r.apply(shared, periodicCheck, answer)
		r.schedule(shared)
	}
	return nil
}

// remove unregisters a guard whose stream has ended.
func (r *guardRegistry) remove(gone *guard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(gone)
}

// drop must be called with the lock held, as all methods below.
func (r *guardRegistry) drop(gone *guard) {
	shared := gone.of
	delete(shared.guards, gone)
	if len(shared.guards) > 0 || r.all[shared.digest] != shared {
		return
	}
	shared.stopTimer()
	shared.stop()
	r.index(shared, nil)
	delete(r.all, shared.digest)
	if len(r.all) == 0 {
		r.stopMonitor()
		r.period = 0
	}
}

// endAll ends all guards of a credential.
func (r *guardRegistry) endAll(shared *guardedCredential, cause *Ended) {
	for ended := range shared.guards {
		ended.end(cause)
		r.drop(ended)
	}
}

// index replaces the subjects of a credential, and reports whether they have changed.
func (r *guardRegistry) index(shared *guardedCredential, subjects []near.Subject) (changed bool) {
	if len(subjects) == len(shared.subjects) && !slices.ContainsFunc(subjects, func(subject near.Subject) bool {
		return !slices.Contains(shared.subjects, subject)
	}) {
		return false
	}
	for _, subject := range shared.subjects {
		delete(r.bySubject[subject], shared)
		if len(r.bySubject[subject]) == 0 {
			delete(r.bySubject, subject)
		}
	}
	for _, subject := range subjects {
		if r.bySubject[subject] == nil {
			r.bySubject[subject] = map[*guardedCredential]struct{}{}
		}
		r.bySubject[subject][shared] = struct{}{}
	}
	shared.subjects = subjects
	return true
}

// followStream schedules checks of all credentials if the live period has ended: the stream may not report the changes
// after it. The checks are spread, so that they do not arrive at the service all at once.
func (r *guardRegistry) followStream() {
	if r.client.cache == nil || len(r.all) == 0 {
		return
	}
	period, remaining := r.client.cache.LivePeriod()
	if period != r.period {
		r.period = period
		now := r.client.options.clock.Now()
		for _, shared := range r.all {
			if shared.nextCheck.IsZero() {
				shared.nextCheck = now.Add(rand.N(shared.periodicity))
				r.schedule(shared)
			}
		}
	}
	r.stopMonitor()
	if period != 0 {
		// The period includes the last instant.
		r.stopMonitor = r.client.options.clock.AfterFunc(remaining+1, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.followStream()
		})
	}
}

// serverNow returns the time of the service, as far as it is known.
func (r *guardRegistry) serverNow() time.Time { return r.client.options.clock.Now().Add(r.serverAhead) }

// periodicityOf returns the time between two periodic checks for an answer that may be cached for so long.
func periodicityOf(cacheableFor time.Duration) time.Duration {
	if cacheableFor <= 0 {
		return defaultGuardPeriod
	}
	return max(minGuardPeriod, cacheableFor)
}
