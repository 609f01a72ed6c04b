package tenantauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The kinds of errors, for errors.Is. Everything else about one is in [Error].
var (
	// ErrUnavailable: the service was not reached, or it cannot decide now, mostly because its database gives no answer.
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: the service has too much to do.
	ErrOverloaded = errors.New("overloaded")
	// ErrInvalid: the request breaks the contract.
	ErrInvalid = errors.New("invalid request")
	// ErrUnauthenticated: the service does not know who calls. Says nothing about a customer's key.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrPermissionDenied: this caller may not do this. Says nothing about a customer's key.
	ErrPermissionDenied = errors.New("not allowed")
	// ErrDeadline: the call took longer than its limit. Also context.DeadlineExceeded.
	ErrDeadline = errors.New("no answer in time")
	// ErrClosed: the client, or the usage recorder, was closed. Nothing was sent.
	ErrClosed = errors.New("closed")
	// ErrOther: anything else, such as a defect of the service, or a call that it does not serve. See Code.
	ErrOther = errors.New("unexpected")
)

// Error is why there is no answer. It never means "no such key": that is a verdict.
type Error struct {
	// Kind is one of ErrUnavailable, ErrOverloaded, ErrInvalid, ErrUnauthenticated, ErrPermissionDenied, ErrDeadline,
	// ErrClosed and ErrOther.
	Kind error
	// Code is the canonical gRPC status code.
	Code codes.Code
	// Message is the service's own words.
	Message string
	// Reason is machine-readable, such as DATABASE_UNREACHABLE; empty when the service gave none.
	Reason string
	// RetryAfter is when the service wants to be asked again; zero when it did not say.
	RetryAfter time.Duration
	// Violations tell, for ErrInvalid, what is wrong with which field.
	Violations []Violation
	// RequestID names the request in the service's log; empty when it did not get there.
	RequestID string
}

// Violation is a field of the request and what is wrong with it.
type Violation struct {
	// Field is a path in the request: requests[3].key.
	Field string
	// Description completes the sentence "the field …".
	Description string
}

// Error is the kind and the service's own words.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "tenant-auth: %v", e.Kind)
	if e.Kind == ErrOther {
		fmt.Fprintf(&text, " (%v)", e.Code)
	}
	if e.Message != "" {
		text.WriteString(": " + e.Message)
	}
	if e.Reason != "" {
		text.WriteString(" [" + e.Reason + "]")
	}
	if e.RequestID != "" {
		text.WriteString(" (request " + e.RequestID + ")")
	}
	return text.String()
}

// Is matches the kind, and the context's error that the code stands for.
func (e *Error) Is(target error) bool {
	switch target {
	case e.Kind:
		return true
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case context.Canceled:
		return e.Code == codes.Canceled
	}
	return false
}

// Transient tells whether asking again later may be answered.
func (e *Error) Transient() bool {
	return e.Kind == ErrUnavailable || e.Kind == ErrOverloaded || e.Kind == ErrDeadline
}

func kind(code codes.Code) error {
	switch code {
	case codes.Unavailable:
		return ErrUnavailable
	case codes.ResourceExhausted:
		return ErrOverloaded
	case codes.InvalidArgument:
		return ErrInvalid
	case codes.Unauthenticated:
		return ErrUnauthenticated
	case codes.PermissionDenied:
		return ErrPermissionDenied
	case codes.DeadlineExceeded:
		return ErrDeadline
	default:
		return ErrOther
	}
}

// shortestSecret is the length below which a key is no secret, and hiding it would only garble the words around it.
const shortestSecret = 8

// errorFrom reads a gRPC status: the only place where one becomes an error of this package.
//
// The result does not unwrap to the status, on purpose: a gRPC server that returned it would pass off the service's
// troubles with this program as this program's troubles with its customer.
func errorFrom(given *status.Status, requestID string, secrets []string) *Error {
	scrub := func(text string) string {
		for _, secret := range secrets {
			if len(secret) >= shortestSecret {
				text = strings.ReplaceAll(text, secret, redacted)
			}
		}
		return text
	}
	made := &Error{Kind: kind(given.Code()), Code: given.Code(), Message: scrub(given.Message()), RequestID: requestID}
	for _, detail := range given.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason = scrub(detail.GetReason())
		case *errdetails.RetryInfo:
			if delay := detail.GetRetryDelay(); delay.CheckValid() == nil {
				made.RetryAfter = max(0, delay.AsDuration())
			}
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				made.Violations = append(made.Violations,
					Violation{Field: field.GetField(), Description: scrub(field.GetDescription())})
			}
		}
	}
	return made
}

// local is an error that this side made.
func local(code codes.Code, message string) *Error {
	return &Error{Kind: kind(code), Code: code, Message: message}
}

// broken is a reply that breaks the contract.
func broken(message string) *Error { return local(codes.Internal, message) }

// invalid is a request that cannot even be sent.
func invalid(field, description string) *Error {
	made := local(codes.InvalidArgument, field+": "+description)
	made.Violations = []Violation{{Field: field, Description: description}}
	return made
}

// closed is the refusal of a call after the end.
func closed() *Error {
	return &Error{Kind: ErrClosed, Code: codes.FailedPrecondition, Message: "Close was called"}
}

// gaveUp is the end of the caller's own patience.
func gaveUp(err error) *Error {
	given := status.FromContextError(err)
	return local(given.Code(), given.Message())
}
