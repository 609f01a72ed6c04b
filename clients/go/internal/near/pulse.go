package near

import "time"

// silence is after how long without a word a stream is dead. Heartbeats come each second.
const silence = 3 * time.Second

// pulse is what is known of the stream of invalidations.
type pulse struct {
	heardAt  time.Time
	revision int64
	// life counts the unbroken periods. What was asked in an earlier one may have changed unheard.
	life int
	// began is the revision at which the present one began. What was told before that was not heard.
	began int64
}

// live tells whether everything that changed has been heard of, up to now.
func (p *pulse) live(now time.Time) bool {
	return !p.heardAt.IsZero() && now.Sub(p.heardAt) <= silence
}

// current is the life that an answer asked for now belongs to; 0 for none.
func (p *pulse) current(now time.Time) int {
	if !p.live(now) {
		return 0
	}
	return p.life
}

func (p *pulse) hear(now time.Time, revision int64) {
	if !p.live(now) {
		p.life++
		p.began = revision
	}
	p.heardAt = now
	// A replica that lags behind does not take back what another one has told.
	p.revision = max(p.revision, revision)
}

// end breaks the life at once, without waiting for the silence.
func (p *pulse) end() {
	p.heardAt = time.Time{}
}
