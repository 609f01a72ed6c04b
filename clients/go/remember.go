package tenantauth

import (
	"errors"
	"fmt"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// The contract's bounds of what scopes may be required.
const (
	mostScopes   = 32
	longestScope = 64
)

// CheckScopes tells what is wrong with scopes that are to be required: at most 32, each 1 to 64 characters of
// a-z 0-9 : . _ - / and *. It is for programs that want to know when they start.
func CheckScopes(scopes ...string) error {
	if ordinary(scopes) {
		return nil
	}
	return invalid("required_scopes", fmt.Sprintf("%.100q must be at most 32, each 1 to 64 characters of a-z 0-9 : . _ - / *", scopes))
}

// ordinary tells whether scopes are such as the contract allows. Others go to the service, which says what is wrong with
// them; the near-cache would only say that the key lacks them.
func ordinary(scopes []string) bool {
	if len(scopes) > mostScopes {
		return false
	}
	for _, scope := range scopes {
		if len(scope) == 0 || len(scope) > longestScope {
			return false
		}
		for _, char := range []byte(scope) {
			if !scopeCharacter(char) {
				return false
			}
		}
	}
	return true
}

func scopeCharacter(char byte) bool {
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

// keep is what may be kept of a decision: for as long as the service says, until one of its subjects changes.
func keep(validation SessionValidation, session ...near.Subject) near.Answer[*SessionValidation] {
	made := near.Answer[*SessionValidation]{
		Value:        &validation,
		CacheableFor: validation.Provenance.CacheableFor,
		WhileWatched: validation.Provenance.CacheableWhileWatched,
		Revision:     validation.Provenance.Revision,
		About:        session,
		Strange:      validation.TenantID == "",
	}
	for _, id := range []string{validation.KeyID, validation.PresentedKeyID} {
		if id != "" {
			made.About = append(made.About, near.Subject{Kind: near.Key, ID: id})
		}
	}
	if validation.TenantID != "" {
		made.About = append(made.About, near.Subject{Kind: near.Tenant, ID: validation.TenantID})
	}
	return made
}

// answered is a caller's own copy of what is shared, judged by the scopes that this caller requires.
func answered(result near.Result[*SessionValidation], scopes []string) SessionValidation {
	validation := result.Value.clone()
	if result.Near {
		provenance := &validation.Provenance
		provenance.Source = SourceNear
		provenance.Age += result.Age
		provenance.CacheableFor = max(0, provenance.CacheableFor-result.Age)
		provenance.CacheableWhileWatched = max(0, provenance.CacheableWhileWatched-result.Age)
	}
	validation.require(scopes)
	return validation
}

// sessionSubject names a session without keeping its id.
func (c *Client) sessionSubject(sessionID string) near.Subject {
	digest := c.hasher.Digest("session id", sessionID)
	return near.Subject{Kind: near.Session, ID: string(digest[:])}
}

// asError makes the end of a caller's patience an error of this package; others are already.
func asError(err error) error {
	var made *Error
	if errors.As(err, &made) {
		return made
	}
	return gaveUp(err)
}
