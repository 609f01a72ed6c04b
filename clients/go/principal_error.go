package tenantauth

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
)

// The kinds of refused principal tokens, for errors.Is. [PrincipalError] has the details.
var (
	// ErrInvalidPrincipal: the token is not a valid one of this issuer for this audience, or it has expired.
	ErrInvalidPrincipal = errors.New("invalid principal token")
	// ErrOutdatedPrincipal: the key or its tenant has changed since the token was issued. The change may be a revocation,
	// but also a new name. The caller should repeat the request through the proxy, which then asks the service again.
	ErrOutdatedPrincipal = errors.New("outdated principal token")
)

// PrincipalError is the error for a refused principal token. It never contains any part of the token.
type PrincipalError struct {
	// Kind is ErrInvalidPrincipal or ErrOutdatedPrincipal.
	Kind error
	// Reason is the reason, for the log of this program.
	Reason string
}

// Error returns the kind and the reason.
func (e *PrincipalError) Error() string { return fmt.Sprintf("tenant-auth: %v: %s", e.Kind, e.Reason) }

// Is matches the kind.
func (e *PrincipalError) Is(target error) bool { return target == e.Kind }

// noPrincipalKeys is the error for a response without usable keys.
func noPrincipalKeys() *Error {
	made := localError(codes.Unavailable, "the service has no usable keys of principal tokens; is it configured to sign them?")
	made.Reason = "NO_PRINCIPAL_KEYS"
	return made
}

// scopesOmitted is the error if a required scope may be one of those that did not fit into the token.
func scopesOmitted() *Error {
	made := localError(codes.Unavailable, "the token has not all scopes of its key: require the scopes at the proxy")
	made.Reason = "SCOPES_OMITTED"
	return made
}

func invalidPrincipal(reason string) error {
	return &PrincipalError{Kind: ErrInvalidPrincipal, Reason: reason}
}
