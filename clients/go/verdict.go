package tenantauth

import (
	"strconv"
	"strings"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Verdict is the decision about a key or a session. Only [Valid] admits a request; a number that this version does not
// know is a denial.
type Verdict int32

// The verdicts of the contract.
const (
	// Valid: known, live, and holding every scope that was asked for.
	Valid = Verdict(tenantauthv1.Verdict_VERDICT_VALID)
	// Unknown: no such key or session.
	Unknown = Verdict(tenantauthv1.Verdict_VERDICT_UNKNOWN)
	// Malformed: the text cannot be a key.
	Malformed = Verdict(tenantauthv1.Verdict_VERDICT_MALFORMED)
	// Expired: the key's lifetime is over.
	Expired = Verdict(tenantauthv1.Verdict_VERDICT_EXPIRED)
	// Revoked: the key was withdrawn.
	Revoked = Verdict(tenantauthv1.Verdict_VERDICT_REVOKED)
	// TenantSuspended: the key is live; its tenant is suspended.
	TenantSuspended = Verdict(tenantauthv1.Verdict_VERDICT_TENANT_SUSPENDED)
	// InsufficientScope: the key is live; it lacks a required scope.
	InsufficientScope = Verdict(tenantauthv1.Verdict_VERDICT_INSUFFICIENT_SCOPE)
	// QuotaExceeded: the tenant has used up its quota.
	QuotaExceeded = Verdict(tenantauthv1.Verdict_VERDICT_QUOTA_EXCEEDED)
	// RateLimited: the tenant calls too often.
	RateLimited = Verdict(tenantauthv1.Verdict_VERDICT_RATE_LIMITED)
	// Unbound: the session is bound to no tenant.
	Unbound = Verdict(tenantauthv1.Verdict_VERDICT_UNBOUND)
	// SessionExpired: the session's lifetime is over.
	SessionExpired = Verdict(tenantauthv1.Verdict_VERDICT_SESSION_EXPIRED)
	// TenantMismatch: the session belongs to another tenant than the key.
	TenantMismatch = Verdict(tenantauthv1.Verdict_VERDICT_TENANT_MISMATCH)
)

// IsValid tells whether the request may proceed.
func (v Verdict) IsValid() bool { return v == Valid }

// String is the contract's name without its prefix, such as INSUFFICIENT_SCOPE.
func (v Verdict) String() string {
	// The contract never sends "unspecified"; a sender that does has decided nothing.
	name, known := tenantauthv1.Verdict_name[int32(v)]
	if !known || v == 0 {
		return "UNRECOGNIZED(" + strconv.Itoa(int(v)) + ")"
	}
	return strings.TrimPrefix(name, "VERDICT_")
}

// Source is where an answer came from.
type Source int32

// The sources of the contract, and this client's own.
const (
	// SourceUnspecified: no lookup was needed.
	SourceUnspecified = Source(tenantauthv1.Source_SOURCE_UNSPECIFIED)
	// SourceDatabase: read from the database for this request.
	SourceDatabase = Source(tenantauthv1.Source_SOURCE_DATABASE)
	// SourceFresh: from the service's memory, within the fresh time.
	SourceFresh = Source(tenantauthv1.Source_SOURCE_FRESH)
	// SourceRefreshing: from its memory, past the fresh time, while a reload runs.
	SourceRefreshing = Source(tenantauthv1.Source_SOURCE_REFRESHING)
	// SourceStale: from its memory, past the fresh time, because the database does not answer.
	SourceStale = Source(tenantauthv1.Source_SOURCE_STALE)
	// SourceNegative: from its memory: the database was found not to hold it a moment ago.
	SourceNegative = Source(tenantauthv1.Source_SOURCE_NEGATIVE)
	// SourceNear: from this client's near-cache. No number of the contract.
	SourceNear Source = -1
)

// String is the contract's name without its prefix, or NEAR.
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
