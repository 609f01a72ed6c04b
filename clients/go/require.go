package tenantauth

import (
	"context"
	"fmt"
	"strings"
)

// Denied is the error of one who must not pass: a decision, and never the lack of one, which is an [Error].
type Denied struct {
	// Verdict is why; never [Valid].
	Verdict Verdict
	// MissingScopes are the required scopes that the key lacks; see [InsufficientScope].
	MissingScopes []string
	// Provenance tells where the decision came from.
	Provenance Provenance
}

// Error is the verdict, and the scopes that are missing.
func (d *Denied) Error() string {
	if len(d.MissingScopes) > 0 {
		return fmt.Sprintf("tenant-auth: denied: %v: %s", d.Verdict, strings.Join(d.MissingScopes, " "))
	}
	return fmt.Sprintf("tenant-auth: denied: %v", d.Verdict)
}

// RequireKey is [Client.ValidateKey] for those who need nothing but the customer: a denial is an error, a [*Denied].
func (c *Client) RequireKey(ctx context.Context, key Key, scopes ...string) (Principal, error) {
	validation, err := c.ValidateKey(ctx, key, scopes...)
	if err != nil {
		return Principal{}, err
	}
	return validation.Principal()
}

// RequireSession is [Client.ValidateSession] for those who need nothing but the customer: a denial is an error, a
// [*Denied]. The key and the scopes of the principal are those of the key that opened the session.
func (c *Client) RequireSession(ctx context.Context, sessionID string, key Key, scopes ...string) (Principal, error) {
	validation, err := c.ValidateSession(ctx, sessionID, key, scopes...)
	if err != nil {
		return Principal{}, err
	}
	return validation.Principal()
}
