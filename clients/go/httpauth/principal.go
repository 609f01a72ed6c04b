package httpauth

import (
	"context"
	"errors"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// principalHeader is the header in which proxies pass principal tokens on.
const principalHeader = "X-Tenant-Principal"

// PrincipalVerifier verifies principal tokens: a *tenantauth.PrincipalVerifier, or a replacement in tests.
type PrincipalVerifier interface {
	Verify(ctx context.Context, token string, scopes ...string) (tenantauth.VerifiedPrincipal, error)
}

// NewPrincipal creates a middleware for servers behind a proxy that asks tenant-auth. Instead of a key, it verifies the
// principal token in the header X-Tenant-Principal. It takes the options of [New]; [WithHeader] names another header.
//
// Requests without a token get 401, with the code NO_CREDENTIALS. Invalid tokens get 401, INVALID_PRINCIPAL. Tokens that are
// older than a change of their key or its tenant get 503, OUTDATED_PRINCIPAL, with Retry-After: the proxy gets a new token
// for the repeated request. All other replies are those for keys.
func NewPrincipal(verifier PrincipalVerifier, opts ...Option) (*Middleware, error) {
	if made, ok := verifier.(*tenantauth.PrincipalVerifier); verifier == nil || ok && made == nil {
		return nil, errors.New("httpauth: the verifier is nil")
	}
	middleware, err := New(tokenValidator{verifier}, append([]Option{WithHeader(principalHeader)}, opts...)...)
	if err != nil {
		return nil, err
	}
	middleware.location = middleware.location.ForTokens()
	return middleware, nil
}

// tokenValidator validates tokens like keys.
type tokenValidator struct{ verifier PrincipalVerifier }

// ValidateKey verifies a token.
func (t tokenValidator) ValidateKey(ctx context.Context, token tenantauth.Key, scopes ...string) (tenantauth.Validation, error) {
	principal, err := t.verifier.Verify(ctx, string(token), scopes...)
	var denied *tenantauth.Denied
	switch {
	case errors.As(err, &denied):
		return tenantauth.Validation{Verdict: denied.Verdict, MissingScopes: denied.MissingScopes, Provenance: denied.Provenance}, nil
	case err != nil:
		return tenantauth.Validation{}, err
	}
	return tenantauth.Validation{
		Verdict:    tenantauth.Valid,
		TenantID:   principal.TenantID,
		Plan:       principal.Plan,
		KeyID:      principal.KeyID,
		Scopes:     principal.Scopes,
		Provenance: tenantauth.Provenance{Revision: principal.Revision},
	}, nil
}
