package near

// Kind is the kind of a subject.
type Kind int

// The kinds of subjects.
const (
	// Nothing is the kind of the zero Subject.
	NoKind Kind = iota
	// Key is a key, identified by its public id.
	Key
	// Tenant is a tenant, identified by its id.
	Tenant
	// Session is a session, identified by the digest of its id.
	Session
)

// Subject is a key, tenant or session that answers depend on and that may change.
type Subject struct {
	Kind Kind
	ID   string
}

// maxChangeMarks is the maximum number of subjects with a change mark.
const maxChangeMarks = 4_096

// changeMarks hold the revision of the last change of each subject. An answer with a lower revision does not reflect
// the change, even if it was requested later, because it may come from a lagging replica.
type changeMarks struct {
	revisions map[Subject]int64
	order     []Subject
	next      int
	// maxEvicted is the highest revision of the evicted marks.
	maxEvicted int64
}

func newChangeMarks() changeMarks {
	return changeMarks{revisions: map[Subject]int64{}}
}

func (f *changeMarks) set(subject Subject, revision int64) {
	if present, ok := f.revisions[subject]; ok {
		f.revisions[subject] = max(present, revision)
		return
	}
	f.revisions[subject] = revision
	if len(f.order) < maxChangeMarks {
		f.order = append(f.order, subject)
		return
	}
	oldest := f.order[f.next]
	f.maxEvicted = max(f.maxEvicted, f.revisions[oldest])
	delete(f.revisions, oldest)
	f.order[f.next] = subject
	f.next = (f.next + 1) % maxChangeMarks
}

// isOutdated reports whether one of the subjects has changed since the revision.
func (f *changeMarks) isOutdated(subjects []Subject, revision int64) bool {
	for _, subject := range subjects {
		if mark, ok := f.revisions[subject]; ok && revision < mark {
			return true
		}
	}
	return false
}
