package near

import "time"

// entry is one answer. All but its place in the list is fixed once it is in.
type entry[V any] struct {
	digest Digest
	answer Answer[V]
	// asked is when the question was about to be sent: the answer is at least as young as that.
	asked time.Time
	// life is the stream's unbroken period in which it was asked; 0 for none.
	life int

	newer, older *entry[V]
}

// entries are bounded, by digest, and findable by what they are about. The least recently used one goes first.
type entries[V any] struct {
	capacity int
	all      map[Digest]*entry[V]
	about    map[Subject]map[*entry[V]]struct{}
	// ends.newer is the oldest and ends.older the newest: a ring without special cases.
	ends entry[V]
}

func (e *entries[V]) init(capacity int) {
	e.capacity = capacity
	e.clear()
}

func (e *entries[V]) clear() {
	e.all = map[Digest]*entry[V]{}
	e.about = map[Subject]map[*entry[V]]struct{}{}
	e.ends.newer, e.ends.older = &e.ends, &e.ends
}

func (e *entries[V]) used(held *entry[V]) {
	if e.ends.older == held {
		return
	}
	unlink(held)
	e.link(held)
}

func (e *entries[V]) put(fresh *entry[V]) {
	if present, ok := e.all[fresh.digest]; ok {
		// An answer that took its time does not replace one that was asked for after it.
		if present.asked.After(fresh.asked) {
			return
		}
		e.drop(present)
	} else if len(e.all) >= e.capacity {
		e.drop(e.ends.newer)
	}
	e.all[fresh.digest] = fresh
	e.link(fresh)
	for _, subject := range fresh.answer.About {
		set := e.about[subject]
		if set == nil {
			set = map[*entry[V]]struct{}{}
			e.about[subject] = set
		}
		set[fresh] = struct{}{}
	}
}

func (e *entries[V]) drop(held *entry[V]) {
	delete(e.all, held.digest)
	unlink(held)
	for _, subject := range held.answer.About {
		delete(e.about[subject], held)
		if len(e.about[subject]) == 0 {
			delete(e.about, subject)
		}
	}
}

func (e *entries[V]) link(held *entry[V]) {
	held.newer, held.older = &e.ends, e.ends.older
	held.older.newer, e.ends.older = held, held
}

func unlink[V any](held *entry[V]) {
	held.newer.older, held.older.newer = held.older, held.newer
}
