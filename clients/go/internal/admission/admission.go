// Package admission turns a request's credentials, and what is decided about them, into what a server tells its customer.
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
	// Ambiguous: the request says two different things about who makes it.
	Ambiguous
	// NoCredentials: there is no key.
	NoCredentials
	// Unauthenticated: the key is not good.
	Unauthenticated
	// Forbidden: the key is good, but not for this.
	Forbidden
	// NotFound: the session is not, or not any more, or not the customer's.
	NotFound
	// Throttled: later, perhaps.
	Throttled
	// Undecided: nobody knows; not the customer's fault.
	Undecided
)

// retryAfter is when to come back when the service did not say.
const retryAfter = time.Second

// Reply is what a customer is told.
type Reply struct {
	Class Class
	// Code is a verdict, or NO_CREDENTIALS, AMBIGUOUS_REQUEST or UNDECIDED.
	Code string
	// Detail is a sentence for the customer's developer.
	Detail string
	// RetryAfter is when to come back; zero: that does not matter.
	RetryAfter time.Duration
	// MissingScopes are the scopes that the key lacks.
	MissingScopes []string
}

// Without is the reply to a request without a key.
func Without() Reply {
	return Reply{Class: NoCredentials, Code: "NO_CREDENTIALS", Detail: "An API key is required."}
}

// Twofold is the reply to a request that may hold two keys.
func Twofold() Reply {
	return Reply{Class: Ambiguous, Code: "AMBIGUOUS_REQUEST", Detail: "The request may hold more than one credential."}
}

// Of is the reply to a request with a key.
func Of(validation tenantauth.Validation, err error) Reply {
	if err != nil {
		return failed(err)
	}
	reply := Reply{Code: validation.Verdict.String(), MissingScopes: validation.MissingScopes}
	switch validation.Verdict {
	case tenantauth.Valid:
		reply.Class = Admitted
	case tenantauth.Unknown, tenantauth.Malformed, tenantauth.Expired, tenantauth.Revoked:
		reply.Class, reply.Detail = Unauthenticated, "The API key is not valid."
	case tenantauth.InsufficientScope:
		reply.Class, reply.Detail = Forbidden, "The API key lacks a required scope."
	case tenantauth.TenantSuspended:
		reply.Class, reply.Detail = Forbidden, "The account is suspended."
	case tenantauth.Unbound, tenantauth.SessionExpired, tenantauth.TenantMismatch:
		reply.Class, reply.Detail = NotFound, "There is no such session."
	case tenantauth.QuotaExceeded, tenantauth.RateLimited:
		reply.Class, reply.Detail, reply.RetryAfter = Throttled, "There are too many requests.", retryAfter
	default:
		reply.Class, reply.Detail = Forbidden, "The request is not allowed."
	}
	return reply
}

// failed is the reply when nothing was decided. That the service does not accept this server is no fault of the
// customer's key, whatever the code says.
func failed(err error) Reply {
	var made *tenantauth.Error
	known := errors.As(err, &made)
	if known && made.Kind == tenantauth.ErrInvalid {
		for _, violation := range made.Violations {
			// The scopes are this server's own; the key is what the customer sent.
			if violation.Field == "key" {
				return Reply{Class: Unauthenticated, Code: tenantauth.Malformed.String(), Detail: "The API key is not valid."}
			}
		}
	}
	reply := Reply{Class: Undecided, Code: "UNDECIDED", Detail: "The API key could not be checked now.", RetryAfter: retryAfter}
	if known {
		reply.RetryAfter = max(retryAfter, made.RetryAfter)
	}
	return reply
}
