package tenantauth

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Validation is the decision about a key, and whose key it is.
//
// For [Unknown] and [Malformed] nothing but the verdict and its provenance is known.
type Validation struct {
	// Verdict is the decision.
	Verdict Verdict
	// TenantID is the tenant that owns the key.
	TenantID string
	// TenantName is the tenant's display name.
	TenantName string
	// Plan is the tenant's plan, an opaque label.
	Plan string
	// KeyID is the key's public id, safe to log.
	KeyID string
	// Scopes are all that the key holds, sorted.
	Scopes []string
	// ExpiresAt is when the key or the session ends by itself; zero: never.
	ExpiresAt time.Time
	// MissingScopes are the required scopes that the key lacks; see [InsufficientScope].
	MissingScopes []string
	// Provenance tells where the answer came from and how long it may be reused.
	Provenance Provenance
}

// SessionValidation is the decision about a session, and whose session it is. KeyID and Scopes are those of the key
// that opened it.
type SessionValidation struct {
	Validation
	// Attributes are what was attached when the session was bound.
	Attributes map[string]string
	// PresentedKeyID is the public id of the key that was presented along, where it is a key of the session's tenant.
	PresentedKeyID string
}

// Provenance is how much an answer is worth.
type Provenance struct {
	// Source is where it came from.
	Source Source
	// Age is the time since the database was asked.
	Age time.Duration
	// Revision is the position in the database's change log that the answer reflects.
	Revision int64
	// CacheableFor is how long it may be reused without asking again. The near-cache sees to that.
	CacheableFor time.Duration
	// CacheableWhileWatched is the same for who has followed the stream of invalidations since before it was asked for.
	CacheableWhileWatched time.Duration
}

// IsValid tells whether the request may proceed.
func (v Validation) IsValid() bool { return v.Verdict.IsValid() }

// Principal is who was admitted; the error of one who was not is a [*Denied].
func (v Validation) Principal() (Principal, error) {
	if !v.IsValid() {
		return Principal{}, &Denied{Verdict: v.Verdict, MissingScopes: v.MissingScopes, Provenance: v.Provenance}
	}
	return Principal{TenantID: v.TenantID, TenantName: v.TenantName, Plan: v.Plan, KeyID: v.KeyID, Scopes: v.Scopes}, nil
}

// clone shares nothing that could be written to: what a caller does to its answer must not reach the near-cache.
func (v *SessionValidation) clone() SessionValidation {
	copied := *v
	copied.Scopes = slices.Clone(v.Scopes)
	copied.MissingScopes = slices.Clone(v.MissingScopes)
	copied.Attributes = maps.Clone(v.Attributes)
	return copied
}

// require decides about scopes, as far as that was left open: the scopes of the key are all known.
func (v *Validation) require(scopes []string) {
	if v.Verdict != Valid && v.Verdict != InsufficientScope {
		return
	}
	v.Verdict, v.MissingScopes = Valid, nil
	for _, scope := range scopes {
		if !slices.Contains(v.Scopes, scope) {
			v.MissingScopes = append(v.MissingScopes, scope)
		}
	}
	if len(v.MissingScopes) > 0 {
		v.Verdict = InsufficientScope
		slices.Sort(v.MissingScopes)
		v.MissingScopes = slices.Compact(v.MissingScopes)
	}
}

// answer is what validations of keys and of sessions have in common on the wire.
type answer interface {
	GetVerdict() tenantauthv1.Verdict
	GetTenantId() string
	GetTenantName() string
	GetPlan() string
	GetKeyId() string
	GetScopes() []string
	GetExpiresAt() *timestamppb.Timestamp
	GetMissingScopes() []string
	GetProvenance() *tenantauthv1.Provenance
}

func validationFromWire(message answer) (Validation, error) {
	expiresAt, err := moment(message.GetExpiresAt())
	if err != nil {
		return Validation{}, err
	}
	age, err := span(message.GetProvenance().GetAge())
	if err != nil {
		return Validation{}, err
	}
	cacheableFor, err := span(message.GetProvenance().GetCacheableFor())
	if err != nil {
		return Validation{}, err
	}
	whileWatched, err := span(message.GetProvenance().GetCacheableWhileWatched())
	if err != nil {
		return Validation{}, err
	}
	return Validation{
		Verdict:       Verdict(message.GetVerdict()),
		TenantID:      message.GetTenantId(),
		TenantName:    message.GetTenantName(),
		Plan:          message.GetPlan(),
		KeyID:         message.GetKeyId(),
		Scopes:        message.GetScopes(),
		ExpiresAt:     expiresAt,
		MissingScopes: message.GetMissingScopes(),
		Provenance: Provenance{
			Source:                sourceFromWire(message.GetProvenance().GetSource()),
			Age:                   age,
			Revision:              message.GetProvenance().GetRevision(),
			CacheableFor:          cacheableFor,
			CacheableWhileWatched: whileWatched,
		},
	}, nil
}

// sourceFromWire keeps a service from claiming this client's own number.
func sourceFromWire(number tenantauthv1.Source) Source {
	if Source(number) == SourceNear {
		return SourceUnspecified
	}
	return Source(number)
}

// moment is a time in a reply; absent is zero. An end that cannot be read must not turn into "never ends".
func moment(message *timestamppb.Timestamp) (time.Time, error) {
	if message == nil {
		return time.Time{}, nil
	}
	if message.CheckValid() != nil {
		return time.Time{}, broken("the reply holds a time that is none")
	}
	return message.AsTime(), nil
}

// span is a duration in a reply; absent is zero.
func span(message *durationpb.Duration) (time.Duration, error) {
	if message == nil {
		return 0, nil
	}
	if message.CheckValid() != nil || message.AsDuration() < 0 {
		return 0, broken("the reply holds a duration that is none")
	}
	return message.AsDuration(), nil
}
