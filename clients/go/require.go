package tenantauth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Denied is the error for a denied key or session. It is a decision; the lack of a decision is an [Error].
type Denied struct {
	// Verdict is the reason; never [Valid].
	Verdict Verdict
	// MissingScopes are the required scopes that the key does not hold; see [InsufficientScope].
	MissingScopes []string
	// Limits are what the limits say, if one of them is exceeded; see [QuotaExceeded] and [RateLimited].
	Limits []LimitDecision
	// Provenance is the source of the decision about the key.
	Provenance Provenance
}

// RetryAfter returns the time after which a retry can succeed, at the earliest. ok is false if no time is known.
func (d *Denied) RetryAfter() (after time.Duration, ok bool) { return retryAfter(d.Limits) }

// Error returns the verdict, and the missing scopes or the limits that are exceeded.
func (d *Denied) Error() string {
	names := slices.Clone(d.MissingScopes)
	for _, limit := range d.Limits {
		if limit.Denies() {
			names = append(names, limit.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Sprintf("tenant-auth: denied: %v: %s", d.Verdict, strings.Join(names, " "))
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
