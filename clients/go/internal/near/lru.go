package near

import "time"

// entry is one cached answer. Everything except its list links is immutable once it is stored.
type entry[V any] struct {
	digest Digest
	answer Answer[V]
	// requestedAt is the time just before the request was sent. The answer is at least as recent.
	requestedAt time.Time
	// epoch is the live period of the stream in which the request was sent; 0 for none.
	epoch int

	newer, older *entry[V]
}

func (e *entry[V]) result(now time.Time) Result[V] {
	return Result[V]{Value: e.answer.Value, FromCache: true, Age: now.Sub(e.requestedAt), Period: e.epoch}
}

// entries is a bounded map from digests to entries with an index by subject. The least recently used entry is evicted
// first.
type entries[V any] struct {
	capacity  int
	all       map[Digest]*entry[V]
	bySubject map[Subject]map[*entry[V]]struct{}
	// sentinel closes the list to a ring: sentinel.newer is the oldest entry, sentinel.older the newest.
	sentinel entry[V]
}

func (e *entries[V]) init(capacity int) {
	e.capacity = capacity
	e.clear()
}

func (e *entries[V]) clear() {
	e.all = map[Digest]*entry[V]{}
	e.bySubject = map[Subject]map[*entry[V]]struct{}{}
	e.sentinel.newer, e.sentinel.older = &e.sentinel, &e.sentinel
}

func (e *entries[V]) touch(held *entry[V]) {
	if e.sentinel.older == held {
		return
	}
	unlink(held)
	e.link(held)
}

func (e *entries[V]) put(fresh *entry[V]) {
	if present, ok := e.all[fresh.digest]; ok {
		// A slow answer does not replace one that was requested after it.
		if present.requestedAt.After(fresh.requestedAt) {
			return
		}
		e.drop(present)
	} else if len(e.all) >= e.capacity {
		e.drop(e.sentinel.newer)
	}
	e.all[fresh.digest] = fresh
	e.link(fresh)
	for _, subject := range fresh.answer.Subjects {
		set := e.bySubject[subject]
		if set == nil {
			set = map[*entry[V]]struct{}{}
			e.bySubject[subject] = set
		}
		set[fresh] = struct{}{}
	}
}

func (e *entries[V]) drop(held *entry[V]) {
	delete(e.all, held.digest)
	unlink(held)
	for _, subject := range held.answer.Subjects {
		delete(e.bySubject[subject], held)
		if len(e.bySubject[subject]) == 0 {
			delete(e.bySubject, subject)
		}
	}
}

func (e *entries[V]) link(held *entry[V]) {
	held.newer, held.older = &e.sentinel, e.sentinel.older
	held.older.newer, e.sentinel.older = held, held
}

func unlink[V any](held *entry[V]) {
	held.newer.older, held.older.newer = held.older, held.newer
}
