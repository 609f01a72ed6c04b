// Package admission maps the credentials of a request, and the decision about them, to the response for the customer.
package admission

import (
	"errors"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// Class is the kind of a reply.
type Class int

// The kinds of replies.
const (
	// Admitted: the request may proceed.
	Admitted Class = iota
	// Ambiguous: the request may contain more than one credential.
	Ambiguous
	// NoCredentials: the request has no key.
	NoCredentials
	// Unauthenticated: the key is not valid.
	Unauthenticated
	// Forbidden: the key is valid but lacks permission.
	Forbidden
	// NotFound: the session does not exist, has ended, or belongs to another tenant.
	NotFound
	// Throttled: too many requests; a later retry may succeed.
	Throttled
	// Undecided: no decision was possible. It is not the customer's fault.
	Undecided
	// Outdated: the principal token is older than a change. The same request gets a new one from the proxy.
	Outdated
)

// defaultRetryAfter is the retry delay if the service gave none.
const defaultRetryAfter = time.Second

// Reply is the response to the customer.
type Reply struct {
	Class Class
	// Code is a verdict, or NO_CREDENTIALS, AMBIGUOUS_REQUEST, UNDECIDED, INVALID_PRINCIPAL or OUTDATED_PRINCIPAL.
	Code string
	// Detail is a sentence for the developer of the calling program.
	Detail string
	// RetryAfter is the retry delay; zero if a retry does not help.
	RetryAfter time.Duration
	// MissingScopes are the required scopes that the key does not hold.
	MissingScopes []string
	// Exceeded are the limits that deny the request, and Subject is whose limits they are, such as tenant:ten_1.
	Exceeded []tenantauth.LimitDecision
	Subject  string
}

// NoCredentialsReply is the reply to a request without a key.
func NoCredentialsReply() Reply {
	return Reply{Class: NoCredentials, Code: "NO_CREDENTIALS", Detail: "An API key is required."}
}

// AmbiguousReply is the reply to a request that may contain two credentials.
func AmbiguousReply() Reply {
	return Reply{Class: Ambiguous, Code: "AMBIGUOUS_REQUEST", Detail: "The request may hold more than one credential."}
}

// ReplyFor is the reply to a request with a key.
func ReplyFor(validation tenantauth.Validation, err error) Reply {
	if err != nil {
		return errorReply(err)
	}
	reply := Reply{Code: validation.Verdict.String(), MissingScopes: validation.MissingScopes}
	switch validation.Verdict {
	case tenantauth.Valid:
		reply.Class = Admitted
	case tenantauth.Unknown, tenantauth.Malformed, tenantauth.Expired, tenantauth.Revoked:
		reply.Class, reply.Detail = Unauthenticated, "The API key is not valid."
	case tenantauth.InsufficientScope:
		reply.Class, reply.Detail = Forbidden, "The API key lacks a required scope."
	case tenantauth.AddressRequired:
		reply.Class, reply.Detail = Forbidden, "The API key may be used from certain networks only, and the network address of the request is not known."
	case tenantauth.AddressNotAllowed:
		reply.Class, reply.Detail = Forbidden, "The API key may not be used from the network address of the request."
	case tenantauth.Disabled:
		reply.Class, reply.Detail = Forbidden, "The API key is disabled."
	case tenantauth.TenantSuspended:
		reply.Class, reply.Detail = Forbidden, "The account is suspended."
	case tenantauth.Unbound, tenantauth.SessionExpired, tenantauth.TenantMismatch:
		reply.Class, reply.Detail = NotFound, "There is no such session."
	case tenantauth.QuotaExceeded, tenantauth.RateLimited:
		reply.Class, reply.Detail, reply.RetryAfter = Throttled, "There are too many requests.", defaultRetryAfter
	default:
		reply.Class, reply.Detail = Forbidden, "The request is not allowed."
	}
	return reply
}

// errorReply is the reply if no decision was made. An error that concerns this server's own credentials says nothing
// about the customer's key, whatever its code.
func errorReply(err error) Reply {
	switch {
	case errors.Is(err, tenantauth.ErrInvalidPrincipal):
		return Reply{Class: Unauthenticated, Code: "INVALID_PRINCIPAL", Detail: "The principal token is not valid."}
	case errors.Is(err, tenantauth.ErrOutdatedPrincipal):
		return Reply{
			Class: Outdated, Code: "OUTDATED_PRINCIPAL", RetryAfter: defaultRetryAfter,
			Detail: "The API key or its account has just changed. Repeat the request.",
		}
	}
	var serviceErr *tenantauth.Error
	known := errors.As(err, &serviceErr)
	if known && serviceErr.Kind == tenantauth.ErrInvalid {
		for _, violation := range serviceErr.Violations {
			// The scopes come from this server's configuration, but the key comes from the customer.
			if violation.Field == "key" || violation.Field == "credential.key.key" {
				return Reply{Class: Unauthenticated, Code: tenantauth.Malformed.String(), Detail: "The API key is not valid."}
			}
		}
	}
	reply := Reply{Class: Undecided, Code: "UNDECIDED", Detail: "The API key could not be checked now.", RetryAfter: defaultRetryAfter}
	if known {
		reply.RetryAfter = max(defaultRetryAfter, serviceErr.RetryAfter)
	}
	return reply
}

// ReplyForEnd is the reply to a request whose stream was ended by its guard.
func ReplyForEnd(ended *tenantauth.Ended) Reply {
	var denied *tenantauth.Denied
	if errors.As(ended, &denied) {
		return ReplyFor(tenantauth.Validation{Verdict: denied.Verdict, MissingScopes: denied.MissingScopes}, nil)
	}
	// The key was valid before, whatever the error says about it.
	reply := errorReply(tenantauth.ErrUnavailable)
	var serviceErr *tenantauth.Error
	if errors.As(ended, &serviceErr) {
		reply.RetryAfter = max(reply.RetryAfter, serviceErr.RetryAfter)
	}
	return reply
}
