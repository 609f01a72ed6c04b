package near

// Kind is what kind of thing a subject is.
type Kind int

// The kinds of things that change.
const (
	// Nothing is the kind of the zero Subject.
	Nothing Kind = iota
	// Key is a key, named by its public id.
	Key
	// Tenant is a tenant, named by its id.
	Tenant
	// Session is a session, named by the digest of its id.
	Session
)

// Subject is a thing that answers are about and that may change.
type Subject struct {
	Kind Kind
	ID   string
}

// rememberedFloors is how many changed subjects are told apart.
const rememberedFloors = 4_096

// floors are the revisions at which subjects changed last: an answer of an earlier revision does not know of the change,
// even if it was asked for afterwards, because it may come from a replica that lags behind.
type floors struct {
	at    map[Subject]int64
	order []Subject
	next  int
	// forgotten is the highest floor that had to give way to another.
	forgotten int64
}

func newFloors() floors {
	return floors{at: map[Subject]int64{}}
}

func (f *floors) raise(subject Subject, revision int64) {
	if present, ok := f.at[subject]; ok {
		f.at[subject] = max(present, revision)
		return
	}
	f.at[subject] = revision
	if len(f.order) < rememberedFloors {
		f.order = append(f.order, subject)
		return
	}
	oldest := f.order[f.next]
	f.forgotten = max(f.forgotten, f.at[oldest])
	delete(f.at, oldest)
	f.order[f.next] = subject
	f.next = (f.next + 1) % rememberedFloors
}

// outdated tells whether a subject has changed since that revision.
func (f *floors) outdated(subjects []Subject, revision int64) bool {
	for _, subject := range subjects {
		if floor, ok := f.at[subject]; ok && revision < floor {
			return true
		}
	}
	return false
}
