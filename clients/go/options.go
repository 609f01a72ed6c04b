package tenantauth

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

// Option changes how a [Client] works; see [New].
type Option func(*options)

// Clock tells the time to a client. Tests may have their own.
type Clock = clock.Clock

type options struct {
	timeout     time.Duration
	attempts    int
	userAgent   string
	tls         *tls.Config
	token       func(context.Context) (string, error)
	nearEntries int
	watchedFor  time.Duration
	watch       bool
	clock       Clock
	logger      *slog.Logger
	dial        []grpc.DialOption
}

func defaults() options {
	return options{
		timeout:     time.Second,
		attempts:    4,
		userAgent:   "tenant-auth-go",
		nearEntries: 10_000,
		watchedFor:  time.Minute,
		watch:       true,
		clock:       clock.System{},
		logger:      slog.New(slog.DiscardHandler),
	}
}

// WithTimeout is how long a call may take when its context has no deadline, retries included; 1 s unless set.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}

// WithAttempts is how often a call is made at most when the service is unavailable; 4 unless set, 1 for no retries.
func WithAttempts(attempts int) Option {
	return func(o *options) { o.attempts = attempts }
}

// WithUserAgent is who calls, for the service's log, such as orders/1.4.
func WithUserAgent(userAgent string) Option {
	return func(o *options) { o.userAgent = userAgent }
}

// WithTLS encrypts, with a configuration of your own; see [TLSFromFiles]. https:// in an endpoint is TLS with the
// machine's own roots, without this option.
func WithTLS(config *tls.Config) Option {
	return func(o *options) { o.tls = config }
}

// WithCallerToken shows the service who calls: it is sent as "authorization: Bearer …" with each call.
func WithCallerToken(token string) Option {
	return WithCallerTokenFunc(func(context.Context) (string, error) { return token, nil })
}

// WithCallerTokenFile is [WithCallerToken] with a file that is read for each call, so that the token can be rotated.
func WithCallerTokenFile(path string) Option {
	return WithCallerTokenFunc(func(context.Context) (string, error) { return readToken(path) })
}

// WithCallerTokenFunc is [WithCallerToken] with a function that is called for each call.
func WithCallerTokenFunc(token func(context.Context) (string, error)) Option {
	return func(o *options) { o.token = token }
}

// WithNearCacheEntries is how many answers are kept; 10,000 unless set. The least recently used one goes first.
func WithNearCacheEntries(entries int) Option {
	return func(o *options) { o.nearEntries = entries }
}

// WithoutNearCache keeps nothing: each question goes to the service.
func WithoutNearCache() Option { return WithNearCacheEntries(0) }

// WithWatchedFor is how long an answer is reused at most while invalidations are heard of; 60 s unless set.
func WithWatchedFor(watchedFor time.Duration) Option {
	return func(o *options) { o.watchedFor = watchedFor }
}

// WithoutWatch does not listen for invalidations: answers are reused for as long as the service allows, and no longer.
func WithoutWatch() Option {
	return func(o *options) { o.watch = false }
}

// WithLogger is told when the stream of invalidations breaks, and of usage that can never be counted.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// WithClock is the clock of the near-cache, of waits between attempts, and of the usage recorder. Deadlines of calls
// are those of their contexts.
func WithClock(clock Clock) Option {
	return func(o *options) { o.clock = clock }
}

// WithDialOptions are handed on to grpc.NewClient, after this package's own: for interceptors, tracing or tests.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}
