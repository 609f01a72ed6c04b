package tenantauth

import (
	"context"
	"errors"
)

// undecidedCode is the code of streams that ended without a decision.
const undecidedCode = "UNDECIDED"

// The status codes of WebSockets (RFC 6455 and its registry).
const (
	policyViolation = 1008
	tryAgainLater   = 1013
)

// Ended is the cause of the end of a guarded context: see [Client.Guard]. It unwraps to the [*Denied] error, or to the
// error without a decision.
type Ended struct {
	// Verdict is the verdict that ended the stream; 0 if no decision was possible in time.
	Verdict Verdict

	err error
}

// EndOf returns why the guard of a context ended it, and false if it did not: the context is still live, or its caller
// has ended it.
func EndOf(ctx context.Context) (ended *Ended, ok bool) {
	ok = errors.As(context.Cause(ctx), &ended)
	return ended, ok
}

// Code returns the name of the verdict, such as REVOKED, or UNDECIDED.
func (e *Ended) Code() string {
	if e.Verdict == 0 {
		return undecidedCode
	}
	return e.Verdict.String()
}

// WebSocketClose returns the status code and the reason to close a WebSocket with: 1008 (policy violation) and the verdict,
// or 1013 (try again later) and UNDECIDED.
func (e *Ended) WebSocketClose() (code int, reason string) {
	if e.Verdict == 0 {
		return tryAgainLater, undecidedCode
	}
	return policyViolation, e.Code()
}

// Error returns the verdict, or why there was no decision.
func (e *Ended) Error() string {
	return "tenant-auth: the guarded stream ended: " + e.Code() + ": " + e.err.Error()
}

// Unwrap returns a [*Denied] error, or the error without a decision.
func (e *Ended) Unwrap() error { return e.err }

// endedBy returns the end with a decision.
func endedBy(err *Denied) *Ended { return &Ended{Verdict: err.Verdict, err: err} }
