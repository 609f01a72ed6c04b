package near

import "time"

// livenessTimeout is the time without an event after which the stream counts as dead. Heartbeats arrive each second.
const livenessTimeout = 3 * time.Second

// liveness is the state of the watch stream.
type liveness struct {
	lastEventAt time.Time
	revision    int64
	// epoch numbers the live periods. Answers requested in an earlier period may have changed without an invalidation.
	epoch int
	// startRevision is the revision at which the current period started. The stream does not cover changes before it.
	startRevision int64
}

// isLive reports whether all changes up to now were received.
func (p *liveness) isLive(now time.Time) bool {
	return !p.lastEventAt.IsZero() && now.Sub(p.lastEventAt) <= livenessTimeout
}

// currentEpoch returns the epoch of a request that starts now; 0 for none.
func (p *liveness) currentEpoch(now time.Time) int {
	if !p.isLive(now) {
		return 0
	}
	return p.epoch
}

// reportsChangesAfter reports whether the current period covers all changes after an answer.
func (p *liveness) reportsChangesAfter(epoch int, revision int64, now time.Time) bool {
	return epoch != 0 && epoch == p.currentEpoch(now) && revision >= p.startRevision
}

func (p *liveness) recordEvent(now time.Time, revision int64) {
	if !p.isLive(now) {
		p.epoch++
		p.startRevision = revision
	}
	p.lastEventAt = now
	// A lagging replica must not lower the revision that another one has sent.
	p.revision = max(p.revision, revision)
}

// markBroken ends the live period immediately, without waiting for the timeout.
func (p *liveness) markBroken() {
	p.lastEventAt = time.Time{}
}
