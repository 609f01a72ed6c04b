package tenantauth

import (
	"context"
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

// sharedAnswer is an answer that is evaluated for each of its callers.
type sharedAnswer = near.Result[*SessionValidation]

func (c *Client) keyDigest(key Key) near.Digest { return c.hasher.Digest("key", string(key)) }

func (c *Client) sessionDigest(sessionID string, key Key) near.Digest {
	return c.hasher.Digest("session", sessionID, string(key))
}

// requestSharedKeyAnswer requests an answer for all callers that validate this key, through the near cache. The request
// carries no scopes, and the answer has all networks of the key: each caller compares its own address and scopes.
func (c *Client) requestSharedKeyAnswer(
	ctx context.Context, digest near.Digest, key Key, from clientAddress,
) (sharedAnswer, error) {
	return c.requestShared(ctx, digest, func(ctx context.Context) (near.Answer[*SessionValidation], error) {
		validation, err := c.requestKeyValidation(ctx, key, from, nil)
		return toCacheable(SessionValidation{Validation: validation}), err
	})
}

// requestSharedSessionAnswer is requestSharedKeyAnswer for a session and the key presented with it.
func (c *Client) requestSharedSessionAnswer(
	ctx context.Context, digest near.Digest, sessionID string, key Key, from clientAddress,
) (sharedAnswer, error) {
	return c.requestShared(ctx, digest, func(ctx context.Context) (near.Answer[*SessionValidation], error) {
		validation, err := c.requestSessionValidation(ctx, sessionID, key, from, nil)
		return toCacheable(validation, c.sessionSubject(sessionID)), err
	})
}

func (c *Client) requestShared(
	ctx context.Context, digest near.Digest, send func(context.Context) (near.Answer[*SessionValidation], error),
) (sharedAnswer, error) {
	if err := c.gate.enter(); err != nil {
		return sharedAnswer{}, err
	}
	defer c.gate.leave()
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	result, err := c.cache.GetOrRequest(ctx, near.Request{Digest: digest}, send)
	if err != nil {
		return result, toError(err)
	}
	return result, nil
}

// requestAnswer requests such an answer without the near cache. Without a session, it is about the key.
func (c *Client) requestAnswer(ctx context.Context, sessionID string, key Key, from clientAddress) (sharedAnswer, error) {
	if err := c.gate.enter(); err != nil {
		return sharedAnswer{}, err
	}
	defer c.gate.leave()
	if sessionID != "" {
		validation, err := c.requestSessionValidation(ctx, sessionID, key, from, nil)
		return sharedAnswer{Value: &validation}, err
	}
	validation, err := c.requestKeyValidation(ctx, key, from, nil)
	return sharedAnswer{Value: &SessionValidation{Validation: validation}}, err
}

// toCacheable returns the cacheable form of a validation: how long it may be cached, and which subjects it depends on.
func toCacheable(validation SessionValidation, session ...near.Subject) near.Answer[*SessionValidation] {
	return near.Answer[*SessionValidation]{
		Value:        &validation,
		CacheableFor: validation.Provenance.CacheableFor,
		WhileWatched: validation.Provenance.CacheableWhileWatched,
		Revision:     validation.Provenance.Revision,
		Subjects:     append(session, subjectsOf(validation.TenantID, validation.KeyID, validation.PresentedKeyID)...),
		Negative:     validation.TenantID == "",
	}
}

// subjectsOf returns the subjects with these ids, which may be empty.
func subjectsOf(tenantID string, keyIDs ...string) (subjects []near.Subject) {
	for _, id := range keyIDs {
		if id != "" {
			subjects = append(subjects, near.Subject{Kind: near.Key, ID: id})
		}
	}
	if tenantID != "" {
		subjects = append(subjects, near.Subject{Kind: near.Tenant, ID: tenantID})
	}
	return subjects
}

// copyForCaller makes the caller's own copy of a shared answer, evaluated with the address of this caller and the scopes
// that it requires. It fills the result of its caller, because each further copy has a measurable cost per hit.
func copyForCaller(result sharedAnswer, from netip.Addr, scopes []string, validation *Validation) {
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
