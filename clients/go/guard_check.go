package tenantauth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

// guardCheck is the reason of a check. If two coincide, the higher one applies.
type guardCheck int

const (
	noCheck guardCheck = iota
	// periodicCheck: the watch stream may not report all changes.
	periodicCheck
	// expiryCheck: the key or the session has expired, as far as it is known.
	expiryCheck
	// reportedCheck: the watch stream has reported a change.
	reportedCheck
)

// reportedCheckTimeout is the maximum duration of a reportedCheck with all its retries.
const reportedCheckTimeout = time.Second

var guardBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: 250 * time.Millisecond}

// start starts a check, unless one is in flight. Then another one follows, because the answer of that one may be older.
func (r *guardRegistry) start(shared *guardedCredential, why guardCheck) {
	if r.closed {
		return
	}
	if shared.checking != noCheck {
		shared.again = max(shared.again, why)
		if why == reportedCheck && shared.checking != reportedCheck {
			// It must not wait for a check that has more time.
			shared.interrupt()
		}
		return
	}
	if shared.undecidedSince.IsZero() {
		shared.undecidedSince = r.client.options.clock.Now()
	}
	ctx := shared.begin(why)
	r.schedule(shared)
	r.client.background.Go(func() { r.check(ctx, shared, why) })
}

// begin marks a check as being in flight, and returns its context.
func (s *guardedCredential) begin(why guardCheck) (ctx context.Context) {
	s.checking = why
	ctx, s.interrupt = context.WithCancel(s.ctx)
	return ctx
}

// check makes a check and those that follow it. It must be called without the lock.
func (r *guardRegistry) check(ctx context.Context, shared *guardedCredential, why guardCheck) {
	for {
		answer, err := r.ask(ctx, shared, why)
		r.mu.Lock()
		isInterrupted := ctx.Err() != nil
		shared.interrupt()
		switch {
		case err == nil:
			r.apply(shared, why, answer)
		case !isInterrupted:
			r.applyError(shared, why, err)
		}
		why, shared.again = shared.again, noCheck
		if why == noCheck || len(shared.guards) == 0 {
			shared.checking = noCheck
			r.schedule(shared)
			r.mu.Unlock()
			return
		}
		ctx = shared.begin(why)
		r.mu.Unlock()
	}
}

// ask requests an answer that reflects all reported changes.
func (r *guardRegistry) ask(ctx context.Context, shared *guardedCredential, why guardCheck) (sharedAnswer, error) {
	if err := r.waitForSlot(ctx); err != nil {
		return sharedAnswer{}, err
	}
	if why != reportedCheck {
		return r.askOnce(ctx, shared.credential, shared.digest, why)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer r.client.options.clock.AfterFunc(reportedCheckTimeout, cancel)()
	for failures := 1; ; failures++ {
		answer, err := r.askOnce(ctx, shared.credential, shared.digest, why)
		if err == nil || clock.Sleep(ctx, r.client.options.clock, guardBackoff.Delay(failures)) != nil || r.waitForSlot(ctx) != nil {
			return answer, err
		}
	}
}

// waitForSlot waits until askOnce may be called, which frees the slot.
func (r *guardRegistry) waitForSlot(ctx context.Context) error {
	select {
	case r.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return contextError(ctx.Err())
	}
}

func (r *guardRegistry) askOnce(ctx context.Context, with *credential, digest near.Digest, why guardCheck) (answer sharedAnswer, err error) {
	defer func() { <-r.slots }()
	c := r.client
	switch session := string(with.session); {
	case c.cache == nil || why == expiryCheck:
		// A cached answer may be from before the expiry.
		answer, err = c.requestAnswer(ctx, session, with.key, with.from)
	case session == "":
		answer, err = c.requestSharedKeyAnswer(ctx, digest, with.key, with.from)
	default:
		answer, err = c.requestSharedSessionAnswer(ctx, digest, session, with.key, with.from)
	}
	if err == nil && c.cache != nil && c.cache.IsOutdated(answer.Value.Provenance.Revision, c.answerSubjects(answer, with)...) {
		return answer, outdatedAnswer()
	}
	return answer, err
}

// answerSubjects returns the subjects that an answer depends on.
func (c *Client) answerSubjects(answer sharedAnswer, with *credential) []near.Subject {
	subjects := subjectsOf(answer.Value.TenantID, answer.Value.KeyID, answer.Value.PresentedKeyID)
	if with.session != "" {
		subjects = append(subjects, c.sessionSubject(string(with.session)))
	}
	return subjects
}

// outdatedAnswer is the error for the answer of a replica that does not know a change yet that another one has reported.
func outdatedAnswer() *Error {
	made := localError(codes.Unavailable, "the answer does not reflect a change that was reported before")
	made.Reason = "OUTDATED_ANSWER"
	return made
}

// apply applies a decision. The lock must be held, as for all functions below.
func (r *guardRegistry) apply(shared *guardedCredential, why guardCheck, answer sharedAnswer) {
	c, value := r.client, answer.Value
	shared.undecidedSince, shared.lastErr = time.Time{}, nil
	for waiting := range shared.guards {
		if !waiting.evaluate(answer) {
			r.drop(waiting)
		}
	}
	if len(shared.guards) == 0 {
		return
	}
	if r.index(shared, c.answerSubjects(answer, shared.credential)) {
		// Changes of the new subjects were not reported until now.
		r.start(shared, periodicCheck)
	}
	shared.expiresAt, shared.periodicity = value.ExpiresAt, periodicityOf(value.Provenance.CacheableFor)
	isCovered := c.cache != nil && c.cache.ReportsChangesAfter(answer.Period, value.Provenance.Revision)
	if isExpired := !shared.expiresAt.IsZero() && !shared.expiresAt.After(r.serverNow()); isExpired && (why == expiryCheck || !r.knowsServerTime) {
		if r.knowsServerTime {
			r.endAll(shared, shared.expired())
			return
		}
		// This clock may be ahead of that of the service, which decides.
		shared.expiresAt, isCovered = time.Time{}, false
	}
	shared.nextCheck = time.Time{}
	if !isCovered {
		shared.nextCheck = c.options.clock.Now().Add(max(minGuardPeriod, shared.periodicity-answer.Age))
	}
}

func (r *guardRegistry) applyError(shared *guardedCredential, why guardCheck, err error) {
	shared.lastErr = err
	switch {
	case why == reportedCheck:
		r.endAll(shared, &Ended{err: err})
	case why == expiryCheck && r.knowsServerTime:
		r.endAll(shared, shared.expired())
	default:
		shared.nextCheck = r.client.options.clock.Now().Add(minGuardPeriod)
	}
}

// expired is the end of a credential that has expired.
func (s *guardedCredential) expired() *Ended {
	verdict := Expired
	if s.credential.session != "" {
		verdict = SessionExpired
	}
	return endedBy(&Denied{Verdict: verdict})
}
