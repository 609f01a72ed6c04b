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

// The kinds of errors, for errors.Is. [Error] has the details.
var (
	// ErrUnavailable: the service is unreachable or cannot decide now, usually because its database does not respond.
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: the service is overloaded.
	ErrOverloaded = errors.New("overloaded")
	// ErrInvalid: the request violates the contract.
	ErrInvalid = errors.New("invalid request")
	// ErrUnauthenticated: the service does not know this caller. It says nothing about a customer key.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrPermissionDenied: this caller lacks the required role. It says nothing about a customer key.
	ErrPermissionDenied = errors.New("permission denied")
	// ErrDeadline: the call exceeded its deadline. Also matches context.DeadlineExceeded.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrClosed: the client or the usage recorder is closed. Nothing was sent.
	ErrClosed = errors.New("closed")
	// ErrOther: any other error, such as an internal error of the service or an RPC that it does not implement. See
	// Code.
	ErrOther = errors.New("unexpected")
)

// Error means that the call has no result. It never means "no such key", which is a verdict.
type Error struct {
	// Kind is one of ErrUnavailable, ErrOverloaded, ErrInvalid, ErrUnauthenticated, ErrPermissionDenied, ErrDeadline,
	// ErrClosed and ErrOther.
	Kind error
	// Code is the canonical gRPC status code.
	Code codes.Code
	// Message is the message of the service.
	Message string
	// Reason is a machine-readable reason, such as DATABASE_UNREACHABLE; empty if the service gave none.
	Reason string
	// RetryAfter is the retry delay that the service asked for; zero if it gave none.
	RetryAfter time.Duration
	// Violations list the invalid fields, for ErrInvalid.
	Violations []Violation
	// RequestID identifies the request in the server log; empty if the request did not reach the server.
	RequestID string
}

// Violation is an invalid field of the request.
type Violation struct {
	// Field is the path of the field in the request: requests[3].key.
	Field string
	// Description says what is wrong with the field.
	Description string
}

// Error returns the kind, the message and the request id.
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

// Is matches the kind, and the context error that corresponds to the code.
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

// Transient reports whether a later retry may succeed.
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

// minSecretLength is the minimum length of a text to redact. Redacting shorter texts would only damage the message.
const minSecretLength = 8

// errorFrom converts a gRPC status to an error of this package. It is the only place that does so.
//
// The result deliberately does not unwrap to the status: a gRPC server that returned it would report an error between
// this program and tenant-auth as an error of its own client.
func errorFrom(received *status.Status, requestID string, secrets []string) *Error {
	scrub := func(text string) string {
		for _, secret := range secrets {
			if len(secret) >= minSecretLength {
				text = strings.ReplaceAll(text, secret, redacted)
			}
		}
		return text
	}
	result := &Error{Kind: kind(received.Code()), Code: received.Code(), Message: scrub(received.Message()), RequestID: requestID}
	for _, detail := range received.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			result.Reason = scrub(detail.GetReason())
		case *errdetails.RetryInfo:
			if delay := detail.GetRetryDelay(); delay.CheckValid() == nil {
				result.RetryAfter = max(0, delay.AsDuration())
			}
		case *errdetails.BadRequest:
			for _, field := range detail.GetFieldViolations() {
				result.Violations = append(result.Violations,
					Violation{Field: field.GetField(), Description: scrub(field.GetDescription())})
			}
		}
	}
	return result
}

// localError returns an error that was detected by this client.
func localError(code codes.Code, message string) *Error {
	return &Error{Kind: kind(code), Code: code, Message: message}
}

// invalidReply returns an error for a response that violates the contract.
func invalidReply(message string) *Error { return localError(codes.Internal, message) }

// invalidField returns an error for a request that cannot be sent.
func invalidField(field, description string) *Error {
	made := localError(codes.InvalidArgument, field+": "+description)
	made.Violations = []Violation{{Field: field, Description: description}}
	return made
}

// closedError returns the error of a call after Close.
func closedError() *Error {
	return &Error{Kind: ErrClosed, Code: codes.FailedPrecondition, Message: "Close was called"}
}

// contextError converts the error of the caller's context.
func contextError(err error) *Error {
	converted := status.FromContextError(err)
	return localError(converted.Code(), converted.Message())
}
