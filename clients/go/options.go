package tenantauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
)

// Option changes how a [Client] works; see [New], which refuses values that make no sense.
type Option func(*options)

// Clock tells the time to a client. Tests may have their own.
type Clock = clock.Clock

const (
	longestDuration  = 24 * time.Hour
	mostEntries      = 10_000_000
	mostAttempts     = 100
	longestUserAgent = 256
)

type options struct {
	timeout     time.Duration
	hedgeAfter  time.Duration
	attempts    int
	userAgent   string
	tls         credentials.TransportCredentials
	tlsFiles    *TLSFiles
	serverName  string
	token       *callerToken
	nearEntries int
	watchedFor  time.Duration
	watch       bool
	clock       Clock
	logger      *slog.Logger
	dial        []grpc.DialOption
	lookup      replicas.Lookup

	environmentProxy bool
	// refused are the options that make no sense.
	refused []error
}

func defaults() options {
	return options{
		timeout:     time.Second,
		attempts:    4,
		userAgent:   "tenant-auth-go",
		nearEntries: 10_000,
		watchedFor:  math.MaxInt64,
		watch:       true,
		clock:       clock.System{},
		logger:      slog.Default(),
	}
}

func (o *options) refuse(option string, value any, fix string) {
	o.refused = append(o.refused, fmt.Errorf("%s(%v): %s", option, value, fix))
}

// apply is all options, or what is wrong with them.
func apply(opts []Option) (*options, error) {
	made := defaults()
	for _, option := range opts {
		if option == nil {
			made.refused = append(made.refused, errors.New("an option is nil; leave it out"))
			continue
		}
		option(&made)
	}
	if made.token != nil {
		made.token.logger = made.logger
	}
	if made.tlsFiles != nil && made.tls != nil {
		made.tls = rereadTLS{made.tls, *made.tlsFiles, made.logger}
	}
	return &made, errors.Join(made.refused...)
}

func (o *options) duration(option string, value time.Duration, into *time.Duration) {
	if value <= 0 || value > longestDuration {
		o.refuse(option, value, "must be more than 0 and at most 24h")
		return
	}
	*into = value
}

// WithTimeout is how long a call may take when its context has no deadline, with all its attempts; 1 s unless set.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.duration("WithTimeout", timeout, &o.timeout) }
}

// WithHedgeAfter is when a question without an answer is sent to a second replica, too; a quarter of the time that the
// call has unless set.
func WithHedgeAfter(after time.Duration) Option {
	return func(o *options) { o.duration("WithHedgeAfter", after, &o.hedgeAfter) }
}

// WithAttempts is how often a call is made at most when the service is unavailable; 4 unless set, 1 for no retries.
func WithAttempts(attempts int) Option {
	return func(o *options) {
		if attempts < 1 || attempts > mostAttempts {
			o.refuse("WithAttempts", attempts, "must be 1 to 100")
			return
		}
		o.attempts = attempts
	}
}

// WithUserAgent is who calls, for the service's log, such as orders/1.4.
func WithUserAgent(userAgent string) Option {
	return func(o *options) {
		if userAgent == "" || len(userAgent) > longestUserAgent || !printable(userAgent) {
			o.refuse("WithUserAgent", fmt.Sprintf("%.300q", userAgent), "must be 1 to 256 printable ASCII characters")
			return
		}
		o.userAgent = userAgent
	}
}

func printable(text string) bool {
	for _, char := range []byte(text) {
		if char < ' ' || char > '~' {
			return false
		}
	}
	return true
}

func (o *options) setTLS(option string, config *tls.Config, err error) {
	switch {
	case err != nil:
		o.refused = append(o.refused, fmt.Errorf("%s: %w", option, err))
	case o.tls != nil:
		o.refused = append(o.refused, fmt.Errorf("%s: TLS is configured twice; leave one out", option))
	default:
		o.tls, o.serverName = credentials.NewTLS(config), config.ServerName
	}
}

// WithTLSFiles encrypts, with certificates from files. https:// in an endpoint is TLS with the machine's own roots,
// without this option.
func WithTLSFiles(files TLSFiles) Option {
	return func(o *options) {
		config, err := files.config()
		o.setTLS("WithTLSFiles", config, err)
		o.tlsFiles = &files
	}
}

// WithTLSPEM encrypts, with certificates from memory.
func WithTLSPEM(pem TLSPEM) Option {
	return func(o *options) {
		config, err := pem.config()
		o.setTLS("WithTLSPEM", config, err)
	}
}

// WithTLS encrypts with a configuration of your own, for what files cannot say: keys in hardware, or identities of a mesh.
func WithTLS(config *tls.Config) Option {
	return func(o *options) {
		if config == nil {
			o.refuse("WithTLS", "nil", "must be a configuration; use https:// for the machine's own roots")
			return
		}
		o.setTLS("WithTLS", config, nil)
	}
}

func (o *options) setToken(option string, read func(context.Context) (string, error), first string, err error) {
	switch {
	case err != nil:
		o.refused = append(o.refused, fmt.Errorf("%s: the token %w", option, err))
	case o.token != nil:
		o.refused = append(o.refused, fmt.Errorf("%s: the caller token is configured twice; leave one out", option))
	default:
		o.token = &callerToken{read: read, last: first}
	}
}

// WithCallerToken shows the service who calls: it is sent as "authorization: Bearer …" with each call. A token is 1 to
// 4,096 visible ASCII characters; blanks and line ends around it are left out.
func WithCallerToken(token string) Option {
	return func(o *options) {
		clean, err := cleanToken(token)
		o.setToken("WithCallerToken", func(context.Context) (string, error) { return clean, nil }, clean, err)
	}
}

// WithCallerTokenFile is [WithCallerToken] with a file that is read for each call, so that the token can be rotated. While
// it cannot be read, the last good one stays in use.
func WithCallerTokenFile(path string) Option {
	return func(o *options) {
		first, err := readToken(path)
		if err != nil {
			err = fmt.Errorf("cannot be read: %w", err)
		}
		o.setToken("WithCallerTokenFile", func(context.Context) (string, error) { return readToken(path) }, first, err)
	}
}

// WithCallerTokenFunc is [WithCallerToken] with a function that is called for each call. While it fails, or gives what can
// be no token, the last good one stays in use; without one, calls fail with [ErrUnauthenticated].
func WithCallerTokenFunc(token func(context.Context) (string, error)) Option {
	return func(o *options) {
		if token == nil {
			o.refuse("WithCallerTokenFunc", "nil", "must be a function")
			return
		}
		o.setToken("WithCallerTokenFunc", token, "", nil)
	}
}

// WithNearCacheEntries is how many answers are kept; 10,000 unless set. The least recently used one goes first.
func WithNearCacheEntries(entries int) Option {
	return func(o *options) {
		if entries < 1 || entries > mostEntries {
			o.refuse("WithNearCacheEntries", entries, "must be 1 to 10,000,000; use WithoutNearCache to keep nothing")
			return
		}
		o.nearEntries = entries
	}
}

// WithoutNearCache keeps nothing: each question goes to the service.
func WithoutNearCache() Option {
	return func(o *options) { o.nearEntries = 0 }
}

// WithWatchedFor bounds how long an answer is reused while invalidations are heard of; unless set, the service alone says.
func WithWatchedFor(watchedFor time.Duration) Option {
	return func(o *options) { o.duration("WithWatchedFor", watchedFor, &o.watchedFor) }
}

// WithoutWatch does not listen for invalidations: answers are reused for as long as the service allows without.
func WithoutWatch() Option {
	return func(o *options) { o.watch = false }
}

// WithLogger is told of troubles that are nobody's error: when the stream of invalidations breaks, when a token or a
// certificate cannot be renewed, and of usage that can never be counted. slog.Default() unless set.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger == nil {
			o.refuse("WithLogger", "nil", "must be a logger; slog.DiscardHandler is one that drops everything")
			return
		}
		o.logger = logger
	}
}

// WithClock is the clock of the near-cache, of waits between attempts, of hedges and silent replicas, of lookups of names,
// and of the usage recorder. Deadlines of calls are those of their contexts.
func WithClock(clock Clock) Option {
	return func(o *options) {
		if clock == nil {
			o.refuse("WithClock", "nil", "must be a clock")
			return
		}
		o.clock = clock
	}
}

// WithEnvironmentProxy uses the HTTP proxy that HTTPS_PROXY names, and heeds NO_PROXY. Loopback addresses and names of a
// cluster (without a dot, or below .svc, .local or .internal) are never reached through it. Without https:// the proxy
// sees customers' keys.
func WithEnvironmentProxy() Option {
	return func(o *options) { o.environmentProxy = true }
}

// WithDialOptions are handed on to grpc.NewClient, after this package's own: for interceptors, tracing or tests.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) {
		for _, option := range dial {
			if option == nil {
				o.refuse("WithDialOptions", "nil", "must be options")
				return
			}
		}
		o.dial = append(o.dial, dial...)
	}
}
