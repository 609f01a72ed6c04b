package tenantauth

import (
	"strconv"
	"strings"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Verdict is the decision about a key or a session. Only [Valid] admits a request; treat unknown values as a denial.
type Verdict int32

// The verdicts of the contract.
const (
	// Valid: the key or session is active, may be used from the client address and holds all required scopes.
	Valid = Verdict(tenantauthv1.Verdict_VERDICT_VALID)
	// Unknown: the key or session does not exist.
	Unknown = Verdict(tenantauthv1.Verdict_VERDICT_UNKNOWN)
	// Malformed: the text is not a key.
	Malformed = Verdict(tenantauthv1.Verdict_VERDICT_MALFORMED)
	// Expired: the key has expired.
	Expired = Verdict(tenantauthv1.Verdict_VERDICT_EXPIRED)
	// Revoked: the key was revoked.
	Revoked = Verdict(tenantauthv1.Verdict_VERDICT_REVOKED)
	// Disabled: the key is disabled until an operator enables it.
	Disabled = Verdict(tenantauthv1.Verdict_VERDICT_DISABLED)
	// TenantSuspended: the key is active, but its tenant is suspended.
	TenantSuspended = Verdict(tenantauthv1.Verdict_VERDICT_TENANT_SUSPENDED)
	// InsufficientScope: the key is active but does not hold all required scopes.
	InsufficientScope = Verdict(tenantauthv1.Verdict_VERDICT_INSUFFICIENT_SCOPE)
	// QuotaExceeded: a quota or credits of the tenant or the key are used up.
	QuotaExceeded = Verdict(tenantauthv1.Verdict_VERDICT_QUOTA_EXCEEDED)
	// RateLimited: the tenant or the key exceeds a rate.
	RateLimited = Verdict(tenantauthv1.Verdict_VERDICT_RATE_LIMITED)
	// Unbound: the session is not bound to a tenant.
	Unbound = Verdict(tenantauthv1.Verdict_VERDICT_UNBOUND)
	// SessionExpired: the session has expired.
	SessionExpired = Verdict(tenantauthv1.Verdict_VERDICT_SESSION_EXPIRED)
	// TenantMismatch: the session belongs to another tenant than the key.
	TenantMismatch = Verdict(tenantauthv1.Verdict_VERDICT_TENANT_MISMATCH)
	// AddressRequired: the key may be used from certain networks only, and the call has no client address.
	AddressRequired = Verdict(tenantauthv1.Verdict_VERDICT_ADDRESS_REQUIRED)
	// AddressNotAllowed: the key may be used from certain networks only, and the client address is in none of them.
	AddressNotAllowed = Verdict(tenantauthv1.Verdict_VERDICT_ADDRESS_NOT_ALLOWED)
)

// IsValid reports whether the request may proceed.
func (v Verdict) IsValid() bool { return v == Valid }

// String returns the contract's name without its prefix, such as INSUFFICIENT_SCOPE.
func (v Verdict) String() string {
	return enumName(tenantauthv1.Verdict_name, int32(v), "VERDICT_")
}

// enumName returns the contract's name of a value without its prefix. The service never sends UNSPECIFIED, so that is
// treated like an unknown value.
func enumName(names map[int32]string, number int32, prefix string) string {
	name, known := names[number]
	if !known || number == 0 {
		return "UNRECOGNIZED(" + strconv.Itoa(int(number)) + ")"
	}
	return strings.TrimPrefix(name, prefix)
}

// Source is where a verdict comes from.
type Source int32

// The sources of the contract, and the one of this client.
const (
	// SourceUnspecified: the verdict needed no lookup.
	SourceUnspecified = Source(tenantauthv1.Source_SOURCE_UNSPECIFIED)
	// SourceDatabase: read from the database for this request.
	SourceDatabase = Source(tenantauthv1.Source_SOURCE_DATABASE)
	// SourceFresh: from the server's cache, within the fresh lifetime.
	SourceFresh = Source(tenantauthv1.Source_SOURCE_FRESH)
	// SourceRefreshing: from the server's cache, past the fresh lifetime, while the entry is being reloaded
	// (stale-while-revalidate).
	SourceRefreshing = Source(tenantauthv1.Source_SOURCE_REFRESHING)
	// SourceStale: from the server's cache, past the fresh lifetime, because the database does not respond
	// (stale-if-error).
	SourceStale = Source(tenantauthv1.Source_SOURCE_STALE)
	// SourceNegative: from a negative entry of the server's cache: a recent database read did not find it.
	SourceNegative = Source(tenantauthv1.Source_SOURCE_NEGATIVE)
	// SourceNear: from this client's near cache. Not a value of the contract.
	SourceNear Source = -1
)

// String returns the contract's name without its prefix, or NEAR.
func (s Source) String() string {
	if s == SourceNear {
		return "NEAR"
	}
	name, known := tenantauthv1.Source_name[int32(s)]
	if !known {
		return "UNRECOGNIZED(" + strconv.Itoa(int(s)) + ")"
	}
	return strings.TrimPrefix(name, "SOURCE_")
}
