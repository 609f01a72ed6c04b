package tenantauth

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// The contract's limits of required scopes.
const (
	maxScopes   = 32
	maxScopeLen = 64
)

// CheckScopes returns an error if the scopes cannot be required: at most 32 scopes, each 1 to 64 characters of a-z 0-9
// : . _ - / and *. Programs can use it to check their scopes at startup.
func CheckScopes(scopes ...string) error {
	if areValidScopes(scopes) {
		return nil
	}
	return invalidField("required_scopes", fmt.Sprintf("invalid scopes %.100q: at most 32, each 1 to 64 characters of a-z 0-9 : . _ - / *", scopes))
}

// areValidScopes reports whether the contract allows the scopes. Requests with invalid scopes go to the service, which
// returns a precise error; the near cache would only report missing scopes.
func areValidScopes(scopes []string) bool {
	if len(scopes) > maxScopes {
		return false
	}
	for _, scope := range scopes {
		if len(scope) == 0 || len(scope) > maxScopeLen {
			return false
		}
		for _, char := range []byte(scope) {
			if !isScopeChar(char) {
				return false
			}
		}
	}
	return true
}

func isScopeChar(char byte) bool {
	switch {
	case 'a' <= char && char <= 'z', '0' <= char && char <= '9':
		return true
	}
	switch char {
	case ':', '.', '_', '-', '/', '*':
		return true
	}
	return false
}

// toCacheable returns the cacheable form of a validation: how long it may be cached, and which subjects it depends on.
func toCacheable(validation SessionValidation, session ...near.Subject) near.Answer[*SessionValidation] {
	answer := near.Answer[*SessionValidation]{
		Value:        &validation,
		CacheableFor: validation.Provenance.CacheableFor,
		WhileWatched: validation.Provenance.CacheableWhileWatched,
		Revision:     validation.Provenance.Revision,
		Subjects:     session,
		Negative:     validation.TenantID == "",
	}
	for _, id := range []string{validation.KeyID, validation.PresentedKeyID} {
		if id != "" {
			answer.Subjects = append(answer.Subjects, near.Subject{Kind: near.Key, ID: id})
		}
	}
	if validation.TenantID != "" {
		answer.Subjects = append(answer.Subjects, near.Subject{Kind: near.Tenant, ID: validation.TenantID})
	}
	return answer
}

// copyForCaller makes the caller's own copy of a shared answer, evaluated with the address of this caller and the scopes
// that it requires. It fills the result of its caller, because each further copy has a measurable cost per hit.
func copyForCaller(result near.Result[*SessionValidation], from netip.Addr, scopes []string, validation *Validation) {
	result.Value.Validation.cloneTo(validation)
	if result.FromCache {
		provenance := &validation.Provenance
		provenance.Source = SourceNear
		provenance.Age += result.Age
		provenance.CacheableFor = max(0, provenance.CacheableFor-result.Age)
		provenance.CacheableWhileWatched = max(0, provenance.CacheableWhileWatched-result.Age)
	}
	validation.evaluate(from, result.Value.PresentedKeyAllowedNetworks, scopes)
}

// sessionSubject identifies a session without storing its id.
func (c *Client) sessionSubject(sessionID string) near.Subject {
	digest := c.hasher.Digest("session id", sessionID)
	return near.Subject{Kind: near.Session, ID: string(digest[:])}
}

// toError converts the error of the caller's context to an error of this package. Other errors already are.
func toError(err error) error {
	var made *Error
	if errors.As(err, &made) {
		return made
	}
	return contextError(err)
}
