package principal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

const (
	// leeway is the tolerated difference in seconds between the clocks of the service and of this program.
	leeway = 5
	// maxLife is the contract's maximum life of a token, in seconds.
	maxLife = 60
)

// Claims are what a token with a valid signature says.
type Claims struct {
	TenantID string
	KeyID    string
	Plan     string
	Scopes   []string
	// OmittedScopes is the number of scopes of the key that did not fit into the token.
	OmittedScopes int64
	// Revision is the change-log revision that the token reflects.
	Revision int64
	// IssuedAt and ExpiresAt are in Unix seconds.
	IssuedAt, ExpiresAt int64

	issuer, audience string
}

// rawClaims has pointers to tell missing claims from empty ones. The library compares names exactly and rejects
// duplicates.
type rawClaims struct {
	Issuer    *string `json:"iss"`
	Audience  *string `json:"aud"`
	TenantID  *string `json:"sub"`
	KeyID     *string `json:"key_id"`
	Scope     *string `json:"scope"`
	Plan      *string `json:"plan"`
	Revision  *int64  `json:"rev"`
	IssuedAt  *int64  `json:"iat"`
	ExpiresAt *int64  `json:"exp"`
	// OmittedScopes is raw because an explicit null is not the same as a missing claim.
	OmittedScopes json.RawMessage `json:"scope_omitted"`
}

func parseClaims(payload []byte) (Claims, error) {
	var raw rawClaims
	if json.Unmarshal(payload, &raw) != nil {
		return Claims{}, errors.New("a claim has a wrong type")
	}
	if slices.Contains([]*string{raw.Issuer, raw.Audience, raw.TenantID, raw.KeyID, raw.Scope, raw.Plan}, nil) ||
		slices.Contains([]*int64{raw.Revision, raw.IssuedAt, raw.ExpiresAt}, nil) {
		return Claims{}, errors.New("a claim is missing")
	}
	claims := Claims{
		TenantID:  *raw.TenantID,
		KeyID:     *raw.KeyID,
		Plan:      *raw.Plan,
		Revision:  *raw.Revision,
		IssuedAt:  *raw.IssuedAt,
		ExpiresAt: *raw.ExpiresAt,
		issuer:    *raw.Issuer,
		audience:  *raw.Audience,
	}
	if claims.TenantID == "" || claims.KeyID == "" {
		return Claims{}, errors.New("it names no tenant or no key")
	}
	if *raw.Scope != "" {
		claims.Scopes = strings.Split(*raw.Scope, " ")
	}
	if raw.OmittedScopes != nil {
		omitted, err := strconv.ParseInt(string(raw.OmittedScopes), 10, 64)
		if err != nil || omitted <= 0 {
			return Claims{}, errors.New("a claim has a wrong type")
		}
		claims.OmittedScopes = omitted
	}
	return claims, nil
}

// Check returns an error unless the token is from the issuer, for the audience, and valid at the given time.
func (c Claims) Check(issuer, audience string, now time.Time) error {
	switch seconds := now.Unix(); {
	case c.issuer != issuer:
		return errors.New("it is from another issuer")
	case c.audience != audience:
		return errors.New("it is for another audience")
	// A difference that overflows is negative.
	case c.ExpiresAt-c.IssuedAt < 0 || c.ExpiresAt-c.IssuedAt > maxLife:
		return fmt.Errorf("its life is not 0 to %d s", maxLife)
	case c.IssuedAt > seconds+leeway:
		return errors.New("it is from the future")
	case c.ExpiresAt <= seconds-leeway:
		return errors.New("it has expired")
	}
	return nil
}
