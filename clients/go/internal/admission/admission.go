// Package admission turns an answer, or the lack of one, into what a server tells its customer.
package admission

import (
	"errors"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// Class is what kind of reply a customer gets.
type Class int

// The classes of replies.
const (
	// Admitted: the request may proceed.
	Admitted Class = iota
	// Unauthenticated: there is no key, or none that is good.
	Unauthenticated
	// Forbidden: the key is good, but not for this.
	Forbidden
	// Throttled: later, perhaps.
	Throttled
	// Undecided: nobody knows; not the customer's fault.
	Undecided
	// Defect: this server asked a question that makes no sense.
	Defect
)

// retryAfter is when to come back when the service did not say.
const retryAfter = time.Second

// Reply is what a customer is told.
type Reply struct {
	Class Class
	// Reason is in short words of the protocol: a verdict, or MISSING or UNAVAILABLE.
	Reason string
	// Message is a sentence for the customer's developer.
	Message string
	// RetryAfter is when to come back.
	RetryAfter time.Duration
	// MissingScopes are the scopes that the key lacks.
	MissingScopes []string
}

// NoKey is the reply to a request without a key.
func NoKey() Reply {
	return Reply{Class: Unauthenticated, Reason: "MISSING", Message: "an API key is required"}
}

// Of is the reply to a request with a key.
func Of(validation tenantauth.Validation, err error) Reply {
	if err != nil {
		return failed(err)
	}
	reply := Reply{Reason: validation.Verdict.String(), MissingScopes: validation.MissingScopes}
	switch validation.Verdict {
	case tenantauth.Valid:
		reply.Class = Admitted
	case tenantauth.Unknown, tenantauth.Malformed, tenantauth.Expired, tenantauth.Revoked, tenantauth.Unbound, tenantauth.SessionExpired:
		reply.Class, reply.Message = Unauthenticated, "the API key is not valid"
	case tenantauth.InsufficientScope:
		reply.Class, reply.Message = Forbidden, "the API key lacks a required scope"
	case tenantauth.TenantSuspended:
		reply.Class, reply.Message = Forbidden, "the account is suspended"
	case tenantauth.QuotaExceeded, tenantauth.RateLimited:
		reply.Class, reply.Message, reply.RetryAfter = Throttled, "too many requests", retryAfter
	default:
		reply.Class, reply.Message = Forbidden, "the request is not allowed"
	}
	return reply
}

// failed is the reply when nothing was decided. That the service does not accept this server is no fault of the
// customer's key, whatever the code says.
func failed(err error) Reply {
	var made *tenantauth.Error
	if errors.As(err, &made) && made.Kind == tenantauth.ErrInvalid {
		for _, violation := range made.Violations {
			if violation.Field == "key" {
				return Reply{Class: Unauthenticated, Reason: "MALFORMED", Message: "the API key is not valid"}
			}
		}
		return Reply{Class: Defect, Reason: "DEFECT", Message: "the request could not be checked"}
	}
	reply := Reply{Class: Undecided, Reason: "UNAVAILABLE", Message: "the request could not be checked now", RetryAfter: retryAfter}
	if made != nil && made.RetryAfter > 0 {
		reply.RetryAfter = made.RetryAfter
	}
	return reply
}
