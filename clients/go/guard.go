package tenantauth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// credential is what a principal was admitted with; a guard validates it again.
type credential struct {
	key Key
	// session is a session id. It is redacted like a key, because it is a secret too.
	session        Key
	presentedKeyID string
	from           clientAddress
	scopes         []string
	expiresAt      time.Time
	cacheableFor   time.Duration
}

// hidden is a pointer to a pointer, because fmt follows a pointer to a struct in an unexported field for some verbs, and
// then prints the plain text of a Key.
type hidden **credential

// keep stores what a valid answer was requested with.
func (v *Validation) keep(with credential, scopes []string) {
	if !v.IsValid() {
		return
	}
	with.scopes, with.expiresAt, with.cacheableFor = slices.Clone(scopes), v.ExpiresAt, v.Provenance.CacheableFor
	// One allocation for both.
	kept := &struct {
		pointer    *credential
		credential credential
	}{credential: with}
	kept.pointer = &kept.credential
	v.credential = &kept.pointer
}

const (
	// defaultTolerance is the default of [WithGuardTolerance].
	defaultTolerance = 10 * time.Second
	// minGuardPeriod and defaultGuardPeriod limit the time between two validations while the watch stream is not live.
	minGuardPeriod     = time.Second
	defaultGuardPeriod = 5 * time.Second
)

// GuardOption configures a guard.
type GuardOption func(*guardOptions)

type guardOptions struct {
	scopes    []string
	tolerance time.Duration
	errs      []error
}

// WithGuardScopes sets scopes that the key must hold for as long as the stream lasts, in addition to those that it was
// validated with.
func WithGuardScopes(scopes ...string) GuardOption {
	return func(o *guardOptions) {
		if err := CheckScopes(scopes...); err != nil {
			o.errs = append(o.errs, fmt.Errorf("WithGuardScopes: %w", err))
			return
		}
		o.scopes = slices.Concat(o.scopes, scopes)
	}
}

// WithGuardTolerance sets how long a stream goes on while the watch stream is not live and the key cannot be validated.
// Default: 10 s.
func WithGuardTolerance(tolerance time.Duration) GuardOption {
	return func(o *guardOptions) {
		if tolerance <= 0 || tolerance > maxDuration {
			o.errs = append(o.errs, fmt.Errorf("WithGuardTolerance(%v): must be more than 0 and at most 24h", tolerance))
			return
		}
		o.tolerance = tolerance
	}
}

// CheckGuardOptions returns an error if the options are invalid. Programs can use it to check their options at startup.
func CheckGuardOptions(opts ...GuardOption) error {
	_, err := applyGuardOptions(opts)
	return err
}

func applyGuardOptions(opts []GuardOption) (guardOptions, error) {
	made := guardOptions{tolerance: defaultTolerance}
	for _, option := range opts {
		if option == nil {
			made.errs = append(made.errs, errors.New("an option is nil; remove it"))
			continue
		}
		option(&made)
	}
	return made, errors.Join(made.errs...)
}

// Guard guards a live stream, such as server-sent events, a WebSocket or a gRPC stream. It returns a context that is
// cancelled when the key, the session or the tenant of the principal may no longer be used, or no longer with the scopes
// that it was validated with. The cause of the context is then an [*Ended] error: see [EndOf].
//
// The guard validates the principal again when the watch stream reports a change of one of them. An error is retried for at
// most 1 s, and then ends the stream as UNDECIDED. It also validates when the key or the session expires. While the watch
// stream is not live, it validates every 5 s, or as often as the service asks for, but not more often than every second;
// errors are tolerated for 10 s: see [WithGuardTolerance]. All validations use the near cache, and all guards of a key share
// them. A guard that waits costs no calls.
//
// The guard is released when ctx ends or release is called; call it when the stream ends. Closing the client ends all
// guarded contexts as UNDECIDED.
//
// The error is [ErrInvalid] for a principal that was not admitted by a client: one that was made by hand or by a replacement
// in tests, or that comes from a principal token. It is [ErrClosed] if the client is closed.
func (c *Client) Guard(ctx context.Context, principal Principal, opts ...GuardOption) (guarded context.Context, release context.CancelFunc, err error) {
	settings, err := applyGuardOptions(opts)
	if err != nil {
		return nil, nil, invalidField("options", err.Error())
	}
	if principal.credential == nil {
		return nil, nil, invalidField("principal", "has no key that could be validated again; "+
			"use the principal of RequireKey, RequireSession, Validation.Principal, or of a middleware for keys")
	}
	admitted := *principal.credential
	guarded, end := context.WithCancelCause(ctx)
	made := &guard{
		scopes:    slices.Concat(admitted.scopes, settings.scopes),
		from:      admitted.from.plain,
		tolerance: settings.tolerance,
		since:     c.options.clock.Now(),
		end:       end,
	}
	if err := c.guards.add(made, principal); err != nil {
		end(err)
		return nil, nil, err
	}
	stop := context.AfterFunc(guarded, func() { c.guards.remove(made) })
	return guarded, func() {
		if stop() {
			c.guards.remove(made)
		}
		end(nil)
	}, nil
}

// guard is one guarded stream.
type guard struct {
	scopes    []string
	from      netip.Addr
	tolerance time.Duration
	since     time.Time
	end       context.CancelCauseFunc
	// of is the credential that this guard shares with others.
	of *guardedCredential
}

// evaluate ends the stream if the answer does not admit it, and reports whether it does.
func (g *guard) evaluate(answer sharedAnswer) bool {
	var validation Validation
	copyForCaller(answer, g.from, g.scopes, &validation)
	if validation.IsValid() {
		return true
	}
	g.end(endedBy(&Denied{Verdict: validation.Verdict, MissingScopes: validation.MissingScopes, Provenance: validation.Provenance}))
	return false
}
