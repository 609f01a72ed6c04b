package tenantauth

import (
	"context"
	"fmt"
	"strings"
)

// Denied is the error for a denied key or session. It is a decision; the lack of a decision is an [Error].
type Denied struct {
	// Verdict is the reason; never [Valid].
	Verdict Verdict
	// MissingScopes are the required scopes that the key does not hold; see [InsufficientScope].
	MissingScopes []string
	// Provenance is the source of the decision.
	Provenance Provenance
}

// Error returns the verdict and the missing scopes.
func (d *Denied) Error() string {
	if len(d.MissingScopes) > 0 {
		return fmt.Sprintf("tenant-auth: denied: %v: %s", d.Verdict, strings.Join(d.MissingScopes, " "))
	}
	return fmt.Sprintf("tenant-auth: denied: %v", d.Verdict)
}

// RequireKey is [Client.ValidateKey] for callers that only need the principal: a denial is returned as a [*Denied]
// error.
func (c *Client) RequireKey(ctx context.Context, key Key, scopes ...string) (Principal, error) {
	validation, err := c.ValidateKey(ctx, key, scopes...)
	if err != nil {
		return Principal{}, err
	}
	return validation.Principal()
}

// RequireSession is [Client.ValidateSession] for callers that only need the principal: a denial is returned as a
// [*Denied] error. The key and the scopes of the principal are those of the key that opened the session.
func (c *Client) RequireSession(ctx context.Context, sessionID string, key Key, scopes ...string) (Principal, error) {
	validation, err := c.ValidateSession(ctx, sessionID, key, scopes...)
	if err != nil {
		return Principal{}, err
	}
	return validation.Principal()
}
