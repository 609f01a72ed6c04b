package tenantauth

import (
	"context"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/principal"
)

// PrincipalVerifier verifies principal tokens: signed statements about an admitted key, which a proxy that asks
// tenant-auth passes on in the header X-Tenant-Principal. It is safe for concurrent use.
//
// The public keys come from the service. They are requested with the first token, at most every 5 s for tokens with unknown
// keys, and after 5 minutes in the background. All verifiers of a client share them. They stay in use if a request fails.
//
// A token is valid for at most 60 s. Within that time it is refused as soon as the watch stream of the client's near cache
// has reported a change of its key or its tenant. Without a near cache, and while the stream is down, it is accepted until it
// expires: a revocation then takes effect after at most 60 s (and 5 s for clocks that differ).
type PrincipalVerifier struct {
	client   *Client
	audience string
}

// VerifiedPrincipal is what a principal token says about an admitted key. A token has no tenant name, so TenantName is
// empty.
type VerifiedPrincipal struct {
	Principal
	// OmittedScopes is the number of scopes of the key that did not fit into the token. If it is not zero, Has may return false
	// for a scope that the key holds.
	OmittedScopes int64
	// Revision is the change-log revision that the token reflects.
	Revision int64
	// IssuedAt is the time at which the token was issued, by the clock of the service.
	IssuedAt time.Time
	// ExpiresAt is the time at which the token expires, by the clock of the service.
	ExpiresAt time.Time
}

// NewPrincipalVerifier creates a verifier for tokens of one audience: the name that the proxy asks with for this program.
// It makes no call. The audience must not be empty.
func (c *Client) NewPrincipalVerifier(audience string) (*PrincipalVerifier, error) {
	if audience == "" {
		return nil, invalidField("audience", "must not be empty")
	}
	return &PrincipalVerifier{client: c, audience: audience}, nil
}

// Verify verifies a token and returns its principal. The token must name all of the scopes. It makes a call only if the
// public keys have to be requested; with the keys in memory, it takes well below a millisecond.
//
// The error is a [*PrincipalError] if the token is invalid or outdated, a [*Denied] with the verdict [InsufficientScope] if
// the key lacks a scope, and an [*Error] if no decision was made: because the keys are not available, the scopes cannot be
// required, or a scope is not among those that fitted into the token (with the Reason SCOPES_OMITTED).
func (v *PrincipalVerifier) Verify(ctx context.Context, token string, scopes ...string) (VerifiedPrincipal, error) {
	c := v.client
	if c.gate.isClosed() {
		return VerifiedPrincipal{}, closedError()
	}
	if err := CheckScopes(scopes...); err != nil {
		return VerifiedPrincipal{}, err
	}
	parsed, err := principal.Parse(token)
	if err != nil {
		return VerifiedPrincipal{}, invalidPrincipal(err.Error())
	}
	key, issuer, known, err := c.principalKey(ctx, parsed.KeyID)
	switch {
	case err != nil:
		return VerifiedPrincipal{}, err
	case !known:
		return VerifiedPrincipal{}, invalidPrincipal("its key is unknown")
	}
	claims, err := parsed.Claims(key)
	if err == nil {
		err = claims.Check(issuer, v.audience, c.options.clock.Now())
	}
	if err != nil {
		return VerifiedPrincipal{}, invalidPrincipal(err.Error())
	}
	if c.isOutdated(claims) {
		return VerifiedPrincipal{}, &PrincipalError{
			Kind: ErrOutdatedPrincipal, Reason: "the key or its tenant has changed since; repeat the request through the proxy",
		}
	}
	return admit(claims, scopes)
}

// isOutdated reports whether the watch stream has reported a change that the token does not reflect.
func (c *Client) isOutdated(claims principal.Claims) bool {
	return c.cache != nil && c.cache.IsOutdated(claims.Revision,
		near.Subject{Kind: near.Key, ID: claims.KeyID}, near.Subject{Kind: near.Tenant, ID: claims.TenantID})
}

func admit(claims principal.Claims, scopes []string) (VerifiedPrincipal, error) {
	validation := Validation{
		TenantID:   claims.TenantID,
		Plan:       claims.Plan,
		KeyID:      claims.KeyID,
		Scopes:     claims.Scopes,
		Provenance: Provenance{Revision: claims.Revision},
	}
	validation.applyRequiredScopes(scopes)
	if validation.Verdict == InsufficientScope && claims.OmittedScopes > 0 {
		return VerifiedPrincipal{}, scopesOmitted()
	}
	held, err := validation.Principal()
	if err != nil {
		return VerifiedPrincipal{}, err
	}
	return VerifiedPrincipal{
		Principal:     held,
		OmittedScopes: claims.OmittedScopes,
		Revision:      claims.Revision,
		IssuedAt:      time.Unix(claims.IssuedAt, 0).UTC(),
		ExpiresAt:     time.Unix(claims.ExpiresAt, 0).UTC(),
	}, nil
}
