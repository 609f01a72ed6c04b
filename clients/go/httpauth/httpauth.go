// Package httpauth is a middleware for net/http that admits only requests with a valid API key.
//
//	auth, err := httpauth.New(client)
//	mux.Handle("GET /orders", auth.Require("orders:read")(orders))
//
// The handler gets the customer from tenantauth.PrincipalFrom(r.Context()), and the customer's network address from
// tenantauth.ClientAddressFrom(r.Context()).
package httpauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Validator validates keys: a *tenantauth.Client, or a replacement in tests.
type Validator interface {
	ValidateKey(ctx context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error)
}

// Middleware creates handlers that admit only requests with a valid key.
type Middleware struct {
	validator Validator
	location  admission.KeyLocation
	address   admission.ClientAddress
	exempt    map[string]bool
	onDenied  func(*http.Request, tenantauth.Validation, error)
	undecided *admission.UndecidedLog
	preflight bool
	// costs is nil if requests cost nothing.
	costs func(*http.Request) []tenantauth.Cost
	guard []tenantauth.GuardOption
	errs  []error
}

// Option configures a [Middleware].
type Option func(*Middleware)

// WithHeader reads the key from the given headers, such as X-API-Key, instead of "Authorization: Bearer …". Name Authorization
// too to read it from both. The same key in several headers, including Authorization, is one credential; requests with two
// different keys get 400.
func WithHeader(names ...string) Option {
	return func(m *Middleware) {
		location, err := admission.InHeaders(names...)
		m.location, m.errs = location, append(m.errs, err)
	}
}

// WithTrustedProxies sets the networks, such as 10.0.0.0/8, or addresses of the proxies in front of this server. For
// requests from them, the customer's address is read from the header X-Forwarded-For, from right to left up to the first
// address that is not a proxy's. For all other requests, and by default, it is the address of the connection.
//
// Name only proxies that append to the header or replace it. Customers can forge their address if one of the networks
// contains anything else.
func WithTrustedProxies(proxies ...string) Option {
	return func(m *Middleware) { m.errs = append(m.errs, m.address.Trust(proxies...)) }
}

// WithClientAddressHeader sets the header that the trusted proxies write the customer's address to, such as
// CF-Connecting-IP, instead of X-Forwarded-For.
func WithClientAddressHeader(name string) Option {
	return func(m *Middleware) { m.errs = append(m.errs, m.address.UseHeader(name)) }
}

// WithExempt admits requests for exactly these paths without a key. They have no principal.
func WithExempt(paths ...string) Option {
	return func(m *Middleware) {
		for _, path := range paths {
			if !strings.HasPrefix(path, "/") {
				m.errs = append(m.errs, fmt.Errorf("WithExempt(%q): a path must begin with /", path))
			}
			m.exempt[path] = true
		}
	}
}

// WithoutPreflight requires a key for CORS preflight requests too. They are admitted without a key by default, because
// browsers send them without credentials.
func WithoutPreflight() Option {
	return func(m *Middleware) { m.preflight = false }
}

// WithOnDenied sets a function that is called for each request with a key that is not admitted. err is set if no
// decision was made, or if a principal token was refused. If a limit is exceeded, the verdict is that of the limit. The context of
// the request has the customer's network address, and the limits if there are costs.
func WithOnDenied(onDenied func(*http.Request, tenantauth.Validation, error)) Option {
	return func(m *Middleware) {
		if onDenied == nil {
			m.errs = append(m.errs, errors.New("WithOnDenied(nil): must be a function"))
			return
		}
		m.onDenied = onDenied
	}
}

// WithLogger sets the logger for requests that could not be decided, at most one message per second. Default:
// slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(m *Middleware) {
		if logger == nil {
			m.errs = append(m.errs, errors.New("WithLogger(nil): must be a logger; to discard all messages, use slog.DiscardHandler"))
			return
		}
		m.undecided.Logger = logger
	}
}

// New creates a middleware that uses the validator.
func New(validator Validator, opts ...Option) (*Middleware, error) {
	middleware := &Middleware{
		validator: validator,
		exempt:    map[string]bool{},
		onDenied:  func(*http.Request, tenantauth.Validation, error) {},
		undecided: &admission.UndecidedLog{Logger: slog.Default(), Now: time.Now},
		preflight: true,
	}
	if client, ok := validator.(*tenantauth.Client); validator == nil || ok && client == nil {
		middleware.errs = append(middleware.errs, errors.New("the validator is nil"))
	}
	for _, option := range opts {
		if option == nil {
			middleware.errs = append(middleware.errs, errors.New("an option is nil; remove it"))
			continue
		}
		option(middleware)
	}
	if middleware.costs != nil && validator != nil {
		_, err := admission.ConsumerIn(validator)
		middleware.errs = append(middleware.errs, err)
	}
	if err := errors.Join(middleware.errs...); err != nil {
		return nil, fmt.Errorf("httpauth: %w", err)
	}
	return middleware, nil
}

// Require admits requests whose key holds all of the scopes. It panics if a scope is invalid, as net/http does for
// patterns: that is a programming error and is found at startup.
func (m *Middleware) Require(scopes ...string) func(http.Handler) http.Handler {
	if err := tenantauth.CheckScopes(scopes...); err != nil {
		panic(fmt.Sprintf("httpauth: Require: %v", err))
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if m.exempt[r.URL.Path] {
				next.ServeHTTP(w, r)
				return
			}
			key, reply := m.location.KeyFrom(r.Header.Values)
			if reply.Class == admission.NoCredentials && m.preflight && isPreflight(r) {
				next.ServeHTTP(w, r)
				return
			}
			if reply.Class != admission.Admitted {
				writeProblem(w, reply)
				return
			}
			ctx := m.address.AddTo(r.Context(), peer(r), r.Header.Values)
			var costs []tenantauth.Cost
			if m.costs != nil {
				costs = m.costs(r)
			}
			result, err := admission.Decide(ctx, m.validator, key, scopes, costs)
			if len(costs) > 0 && err == nil {
				ctx = tenantauth.ContextWithLimits(ctx, result.Limits)
				setLimits(w.Header(), result.Limits)
			}
			principal, denied := result.Principal()
			if err != nil || denied != nil {
				m.deny(w, r.WithContext(ctx), result, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(tenantauth.ContextWithPrincipal(ctx, principal)))
		})
	}
}

func (m *Middleware) deny(w http.ResponseWriter, r *http.Request, result tenantauth.ConsumeResult, err error) {
	reply := admission.ReplyForResult(result, err)
	if reply.Class == admission.Undecided {
		m.undecided.Log(r.Context(), err)
	}
	validation := result.Validation.Validation
	validation.Verdict = result.Verdict
	m.onDenied(r, validation, err)
	writeProblem(w, reply)
}

// peer returns the address of the connection, or an empty text for a Unix socket. There, RemoteAddr is a path, which the
// peer can choose to look like an address.
func peer(r *http.Request) string {
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		return ""
	}
	return r.RemoteAddr
}

// isPreflight reports whether a request is a CORS preflight request. Browsers send these without credentials.
func isPreflight(r *http.Request) bool {
	has := func(name string) bool { return len(r.Header.Values(name)) > 0 }
	return r.Method == http.MethodOptions && has("Origin") && has("Access-Control-Request-Method")
}
