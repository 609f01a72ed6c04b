package tenantauth

import (
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/address"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Validation is the verdict on a key, and the tenant that owns the key.
//
// With [Unknown] and [Malformed] only Verdict and Provenance are set.
type Validation struct {
	// Verdict is the verdict.
	Verdict Verdict
	// TenantID is the id of the tenant that owns the key.
	TenantID string
	// TenantName is the tenant's display name.
	TenantName string
	// Plan is the tenant's plan, a label that the service does not interpret.
	Plan string
	// KeyID is the key's public id. It is safe to log.
	KeyID string
	// Scopes are all scopes that the key holds, sorted.
	Scopes []string
	// ExpiresAt is the time at which the key or the session expires; zero if it does not expire.
	ExpiresAt time.Time
	// MissingScopes are the required scopes that the key does not hold; see [InsufficientScope].
	MissingScopes []string
	// AllowedNetworks are the networks from which the key may be used. If the list is empty, the key may be used from
	// everywhere. A network that this client cannot parse is the zero value, which contains no address.
	AllowedNetworks []netip.Prefix
	// Provenance is the source of the verdict, and how long it may be cached.
	Provenance Provenance

	// credential is set if the verdict is [Valid] and the validation comes from a client.
	credential hidden
}

// SessionValidation is the verdict on a session, and the tenant of the session. KeyID, Scopes and AllowedNetworks are
// those of the key that opened it.
type SessionValidation struct {
	Validation
	// Attributes are the attributes that were attached when the session was bound.
	Attributes map[string]string
	// PresentedKeyID is the public id of the key presented with the session. It is set only if that key belongs to the
	// tenant of the session.
	PresentedKeyID string
	// PresentedKeyAllowedNetworks are the networks from which the key presented with the session may be used. The list
	// is empty if that is the key that opened the session.
	PresentedKeyAllowedNetworks []netip.Prefix
}

// Provenance is the source and age of a verdict, and how long it may be cached.
type Provenance struct {
	// Source is the source of the verdict.
	Source Source
	// Age is the time since the server queried the database.
	Age time.Duration
	// Revision is the change-log revision of the database that the verdict reflects.
	Revision int64
	// CacheableFor is how long the verdict may be cached. The near cache respects it.
	CacheableFor time.Duration
	// CacheableWhileWatched is how long a client may cache the verdict that has followed the watch stream without a gap
	// since before it sent the request.
	CacheableWhileWatched time.Duration
}

// IsValid reports whether the request may proceed.
func (v Validation) IsValid() bool { return v.Verdict.IsValid() }

// Principal returns the admitted customer, or a [*Denied] error.
func (v Validation) Principal() (Principal, error) {
	if !v.IsValid() {
		return Principal{}, &Denied{Verdict: v.Verdict, MissingScopes: v.MissingScopes, Provenance: v.Provenance}
	}
	return Principal{
		TenantID: v.TenantID, TenantName: v.TenantName, Plan: v.Plan, KeyID: v.KeyID, Scopes: v.Scopes, credential: v.credential,
	}, nil
}

// cloneTo copies everything that is mutable: changes that a caller makes to its answer must not reach the near cache.
func (v *Validation) cloneTo(copied *Validation) {
	*copied = *v
	copied.Scopes = slices.Clone(v.Scopes)
	copied.MissingScopes = slices.Clone(v.MissingScopes)
	copied.AllowedNetworks = slices.Clone(v.AllowedNetworks)
}

// evaluate decides for the address and the required scopes of a caller. This is possible because the answer has all
// networks and all scopes of the key. presented are the networks of a key that was presented with a session.
func (v *Validation) evaluate(from netip.Addr, presented []netip.Prefix, scopes []string) {
	isRestricted := len(v.AllowedNetworks)+len(presented) > 0
	switch v.Verdict {
	case Valid, InsufficientScope:
	case AddressRequired, AddressNotAllowed:
		if !isRestricted {
			// Without the networks, the address cannot be compared again.
			return
		}
	default:
		return
	}
	v.MissingScopes = nil
	switch {
	case !isRestricted:
		v.applyRequiredScopes(scopes)
	case !from.IsValid():
		v.Verdict = AddressRequired
	case !allows(v.AllowedNetworks, from) || !allows(presented, from):
		v.Verdict = AddressNotAllowed
	default:
		v.applyRequiredScopes(scopes)
	}
}

// allows reports whether the networks of a key allow an address.
func allows(networks []netip.Prefix, from netip.Addr) bool {
	return len(networks) == 0 || address.IsIn(from, networks)
}

// applyRequiredScopes evaluates the required scopes. MissingScopes must be empty.
func (v *Validation) applyRequiredScopes(scopes []string) {
	v.Verdict = Valid
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

// validationMessage has the fields that the responses for keys and for sessions have in common.
type validationMessage interface {
	GetVerdict() tenantauthv1.Verdict
	GetTenantId() string
	GetTenantName() string
	GetPlan() string
	GetKeyId() string
	GetScopes() []string
	GetExpiresAt() *timestamppb.Timestamp
	GetMissingScopes() []string
	GetAllowedNetworks() []string
	GetProvenance() *tenantauthv1.Provenance
}

func validationFromWire(message validationMessage) (Validation, error) {
	expiresAt, err := parseTime(message.GetExpiresAt())
	if err != nil {
		return Validation{}, err
	}
	age, err := parseDuration(message.GetProvenance().GetAge())
	if err != nil {
		return Validation{}, err
	}
	cacheableFor, err := parseDuration(message.GetProvenance().GetCacheableFor())
	if err != nil {
		return Validation{}, err
	}
	whileWatched, err := parseDuration(message.GetProvenance().GetCacheableWhileWatched())
	if err != nil {
		return Validation{}, err
	}
	return Validation{
		Verdict:         Verdict(message.GetVerdict()),
		TenantID:        message.GetTenantId(),
		TenantName:      message.GetTenantName(),
		Plan:            message.GetPlan(),
		KeyID:           message.GetKeyId(),
		Scopes:          message.GetScopes(),
		ExpiresAt:       expiresAt,
		MissingScopes:   message.GetMissingScopes(),
		AllowedNetworks: networksFromWire(message.GetAllowedNetworks()),
		Provenance: Provenance{
			Source:                sourceFromWire(message.GetProvenance().GetSource()),
			Age:                   age,
			Revision:              message.GetProvenance().GetRevision(),
			CacheableFor:          cacheableFor,
			CacheableWhileWatched: whileWatched,
		},
	}, nil
}

// networksFromWire parses the networks of a key. A network that cannot be parsed must not turn into "from everywhere".
func networksFromWire(texts []string) []netip.Prefix {
	if len(texts) == 0 {
		return nil
	}
	networks := make([]netip.Prefix, len(texts))
	for index, text := range texts {
		if network, ok := address.ParseNetwork(text); ok {
			networks[index] = network
		}
	}
	return networks
}

// sourceFromWire prevents a service from sending the number that this client reserves for the near cache.
func sourceFromWire(number tenantauthv1.Source) Source {
	if Source(number) == SourceNear {
		return SourceUnspecified
	}
	return Source(number)
}

// parseTime converts a time of a response; absent is zero. An invalid expiry must not turn into "does not expire".
func parseTime(message *timestamppb.Timestamp) (time.Time, error) {
	if message == nil {
		return time.Time{}, nil
	}
	if message.CheckValid() != nil {
		return time.Time{}, invalidReply("the response contains an invalid timestamp")
	}
	return message.AsTime(), nil
}

// parseDuration converts a duration of a response; absent is zero.
func parseDuration(message *durationpb.Duration) (time.Duration, error) {
	if message == nil {
		return 0, nil
	}
	if message.CheckValid() != nil || message.AsDuration() < 0 {
		return 0, invalidReply("the response contains an invalid duration")
	}
	return message.AsDuration(), nil
}
