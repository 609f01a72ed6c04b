package tenantauth

import (
	"errors"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
)

// The contract's bounds of what scopes may be required.
const (
	mostScopes   = 32
	longestScope = 64
)

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

// keyAnswer is what may be kept of a decision about a key.
func keyAnswer(validation Validation) near.Answer[*SessionValidation] {
	made := baseAnswer(SessionValidation{Validation: validation})
	made.Unattributed = validation.KeyID == ""
	made.Lasting = lasting(validation.Verdict)
	if validation.Verdict != Expired {
		made.Ends = validation.ExpiresAt
	}
	return made
}

// sessionAnswer is what may be kept of a decision about a session.
func sessionAnswer(validation SessionValidation, session near.Subject, withKey bool, asked time.Time) near.Answer[*SessionValidation] {
	made := baseAnswer(validation)
	made.About = append(made.About, session)
	// The answer does not name the key that was presented along: nobody could tell us that this one changed.
	made.Unattributed = validation.TenantID == "" || withKey
	made.Lasting = lasting(validation.Verdict) && !withKey
	if !validation.ExpiresAt.IsZero() {
		// A sliding session lives on only while the service hears of it: ask again in the middle of what is left.
		made.Ends = asked.Add(validation.ExpiresAt.Sub(asked) / 2)
	}
	return made
}

func baseAnswer(validation SessionValidation) near.Answer[*SessionValidation] {
	made := near.Answer[*SessionValidation]{
		Value:        &validation,
		CacheableFor: validation.Provenance.CacheableFor,
		Revision:     validation.Provenance.Revision,
	}
	if validation.KeyID != "" {
		made.About = append(made.About, near.Subject{Kind: near.Key, ID: validation.KeyID})
	}
	if validation.TenantID != "" {
		made.About = append(made.About, near.Subject{Kind: near.Tenant, ID: validation.TenantID})
	}
	return made
}

// lasting verdicts change only by something that the stream of invalidations tells of.
func lasting(verdict Verdict) bool {
	switch verdict {
	case Valid, InsufficientScope, Revoked, Expired, TenantSuspended:
		return true
	default:
		return false
	}
}

// answered is a caller's own copy of what is shared, judged by the scopes that this caller requires.
func answered(result near.Result[*SessionValidation], scopes []string) SessionValidation {
	validation := result.Value.clone()
	if result.Near {
		provenance := &validation.Provenance
		provenance.Source = SourceNear
		provenance.Age += result.Age
		provenance.CacheableFor = max(0, provenance.CacheableFor-result.Age)
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
