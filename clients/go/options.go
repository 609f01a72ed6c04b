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

// Option configures a [Client]. [New] rejects invalid values.
type Option func(*options)

// Clock is the time source of a client. Tests may replace it.
type Clock = clock.Clock

const (
	maxDuration     = 24 * time.Hour
	maxEntries      = 10_000_000
	maxAttempts     = 100
	maxUserAgentLen = 256
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
	// errs are the errors of invalid options.
	errs []error
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

func (o *options) addError(option string, value any, fix string) {
	o.errs = append(o.errs, fmt.Errorf("%s(%v): %s", option, value, fix))
}

// apply applies all options, and returns an error that lists all invalid ones.
func apply(opts []Option) (*options, error) {
	made := defaults()
	for _, option := range opts {
		if option == nil {
			made.errs = append(made.errs, errors.New("an option is nil; remove it"))
			continue
		}
		option(&made)
	}
	if made.token != nil {
		made.token.logger = made.logger
	}
	if made.tlsFiles != nil && made.tls != nil {
		made.tls = reloadingTLS{made.tls, *made.tlsFiles, made.logger}
	}
	return &made, errors.Join(made.errs...)
}

func (o *options) duration(option string, value time.Duration, into *time.Duration) {
	if value <= 0 || value > maxDuration {
		o.addError(option, value, "must be more than 0 and at most 24h")
		return
	}
	*into = value
}

// WithTimeout sets the timeout of a call whose context has no deadline, for all attempts together. Default: 1 s.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.duration("WithTimeout", timeout, &o.timeout) }
}

// WithHedgeAfter sets the time after which an unanswered request is also sent to a second replica. Default: a quarter
// of the time that the call has left.
func WithHedgeAfter(after time.Duration) Option {
	return func(o *options) { o.duration("WithHedgeAfter", after, &o.hedgeAfter) }
}

// WithAttempts sets the maximum number of attempts of a call while the service is unavailable. Default: 4. Use 1 for no
// retries.
func WithAttempts(attempts int) Option {
	return func(o *options) {
		if attempts < 1 || attempts > maxAttempts {
			o.addError("WithAttempts", attempts, "must be 1 to 100")
			return
		}
		o.attempts = attempts
	}
}

// WithUserAgent sets the name of the calling program, for the server log, such as orders/1.4.
func WithUserAgent(userAgent string) Option {
	return func(o *options) {
		if userAgent == "" || len(userAgent) > maxUserAgentLen || !isPrintable(userAgent) {
			o.addError("WithUserAgent", fmt.Sprintf("%.300q", userAgent), "must be 1 to 256 printable ASCII characters")
			return
		}
		o.userAgent = userAgent
	}
}

func isPrintable(text string) bool {
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
		o.errs = append(o.errs, fmt.Errorf("%s: %w", option, err))
	case o.tls != nil:
		o.errs = append(o.errs, fmt.Errorf("%s: TLS is configured twice; remove one of the options", option))
	default:
		o.tls, o.serverName = credentials.NewTLS(config), config.ServerName
	}
}

// WithTLSFiles enables TLS, with certificates from files. For TLS with the system roots, https:// in the endpoint is
// enough.
func WithTLSFiles(files TLSFiles) Option {
	return func(o *options) {
		config, err := files.config()
		o.setTLS("WithTLSFiles", config, err)
		o.tlsFiles = &files
	}
}

// WithTLSPEM enables TLS, with certificates from memory.
func WithTLSPEM(pem TLSPEM) Option {
	return func(o *options) {
		config, err := pem.config()
		o.setTLS("WithTLSPEM", config, err)
	}
}

// WithTLS enables TLS with a custom configuration, for cases that files do not cover: keys in hardware, or mesh
// identities.
func WithTLS(config *tls.Config) Option {
	return func(o *options) {
		if config == nil {
			o.addError("WithTLS", "nil", "must be a configuration; for TLS with the system roots, use https://")
			return
		}
		o.setTLS("WithTLS", config, nil)
	}
}

func (o *options) setToken(option string, read func(context.Context) (string, error), first string, err error) {
	switch {
	case err != nil:
		o.errs = append(o.errs, fmt.Errorf("%s: caller token: %w", option, err))
	case o.token != nil:
		o.errs = append(o.errs, fmt.Errorf("%s: the caller token is configured twice; remove one of the options", option))
	default:
		o.token = &callerToken{read: read, last: first}
	}
}

// WithCallerToken sets the token that identifies this caller to the service. It is sent as "authorization: Bearer …"
// with each call. A token is 1 to 4,096 visible ASCII characters; surrounding whitespace is removed.
func WithCallerToken(token string) Option {
	return func(o *options) {
		clean, err := parseToken(token)
		o.setToken("WithCallerToken", func(context.Context) (string, error) { return clean, nil }, clean, err)
	}
}

// WithCallerTokenFile is [WithCallerToken] with a file that is read for each call, so the token can be rotated. If the
// file cannot be read, the last valid token stays in use.
func WithCallerTokenFile(path string) Option {
	return func(o *options) {
		first, err := readTokenFile(path)
		if err != nil {
			err = fmt.Errorf("cannot be read: %w", err)
		}
		o.setToken("WithCallerTokenFile", func(context.Context) (string, error) { return readTokenFile(path) }, first, err)
	}
}

// WithCallerTokenFunc is [WithCallerToken] with a function that is called for each call. If it fails or returns an
// invalid token, the last valid token stays in use. If there is none yet, calls fail with [ErrUnauthenticated].
func WithCallerTokenFunc(token func(context.Context) (string, error)) Option {
	return func(o *options) {
		if token == nil {
			o.addError("WithCallerTokenFunc", "nil", "must be a function")
			return
		}
		o.setToken("WithCallerTokenFunc", token, "", nil)
	}
}

// WithNearCacheEntries sets the maximum number of cached answers. The least recently used one is evicted first.
// Default: 10,000.
func WithNearCacheEntries(entries int) Option {
	return func(o *options) {
		if entries < 1 || entries > maxEntries {
			o.addError("WithNearCacheEntries", entries, "must be 1 to 10,000,000; to turn the cache off, use WithoutNearCache")
			return
		}
		o.nearEntries = entries
	}
}

// WithoutNearCache turns the near cache off: each validation is an RPC.
func WithoutNearCache() Option {
	return func(o *options) { o.nearEntries = 0 }
}

// WithWatchedFor limits how long an answer is cached while the watch stream is live. Default: the limit given by the
// service.
func WithWatchedFor(watchedFor time.Duration) Option {
	return func(o *options) { o.duration("WithWatchedFor", watchedFor, &o.watchedFor) }
}

// WithoutWatch turns the watch stream off: answers are cached only for as long as the service allows without it.
func WithoutWatch() Option {
	return func(o *options) { o.watch = false }
}

// WithLogger sets the logger for problems that no call returns as an error: the watch stream ends, a token or a
// certificate cannot be renewed, usage events are rejected. Default: slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) {
		if logger == nil {
			o.addError("WithLogger", "nil", "must be a logger; to discard all messages, use slog.DiscardHandler")
			return
		}
		o.logger = logger
	}
}

// WithClock sets the clock of the near cache, retry delays, hedging, liveness checks, DNS lookups and the usage
// recorder. Deadlines of calls come from their contexts.
func WithClock(clock Clock) Option {
	return func(o *options) {
		if clock == nil {
			o.addError("WithClock", "nil", "must be a clock")
			return
		}
		o.clock = clock
	}
}

// WithEnvironmentProxy uses the HTTP proxy of HTTPS_PROXY and respects NO_PROXY. Loopback addresses and cluster-local
// names (without a dot, or below .svc, .local or .internal) are always connected to directly. Without https://, the
// proxy sees the customers' keys.
func WithEnvironmentProxy() Option {
	return func(o *options) { o.environmentProxy = true }
}

// WithDialOptions passes options to grpc.NewClient, after those of this package: for interceptors, tracing or tests.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) {
		for _, option := range dial {
			if option == nil {
				o.addError("WithDialOptions", "nil", "must be options")
				return
			}
		}
		o.dial = append(o.dial, dial...)
	}
}
