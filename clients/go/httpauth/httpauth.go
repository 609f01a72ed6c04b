// Package httpauth lets only requests with a good key through to an http.Handler.
//
//	auth, err := httpauth.New(client)
//	mux.Handle("GET /orders", auth.Require("orders:read")(orders))
//
// The handler finds who calls with tenantauth.PrincipalFrom(r.Context()).
package httpauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Validator decides about keys: a *tenantauth.Client, or a stand-in for tests.
type Validator interface {
	ValidateKey(ctx context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error)
}

// Middleware makes handlers that let only requests with a good key through.
type Middleware struct {
	validator Validator
	where     admission.Where
	exempt    map[string]bool
	onDenied  func(*http.Request, tenantauth.Validation, error)
	undecided *admission.UndecidedLog
	preflight bool
	refused   []error
}

// Option changes how a [Middleware] works.
type Option func(*Middleware)

// WithHeader takes the key from a header of its own, such as X-API-Key, instead of "Authorization: Bearer …".
func WithHeader(name string) Option {
	return func(m *Middleware) {
		where, err := admission.In(name)
		m.where, m.refused = where, append(m.refused, err)
	}
}

// WithExempt lets requests for these exact paths through without a key, and without a principal.
func WithExempt(paths ...string) Option {
	return func(m *Middleware) {
		for _, path := range paths {
			if !strings.HasPrefix(path, "/") {
				m.refused = append(m.refused, fmt.Errorf("WithExempt(%q): a path begins with /", path))
			}
			m.exempt[path] = true
		}
	}
}

// WithoutPreflight demands a key of CORS preflights, too. Browsers send them without, so they are let through otherwise.
func WithoutPreflight() Option {
	return func(m *Middleware) { m.preflight = false }
}

// WithOnDenied is told of each request with a key that was not let through: err when nothing could be decided.
func WithOnDenied(onDenied func(*http.Request, tenantauth.Validation, error)) Option {
	return func(m *Middleware) {
		if onDenied == nil {
			m.refused = append(m.refused, errors.New("WithOnDenied(nil): must be a function"))
			return
		}
		m.onDenied = onDenied
	}
}

// WithLogger is told when nothing can be decided, at most once a second; slog.Default() unless set.
func WithLogger(logger *slog.Logger) Option {
	return func(m *Middleware) {
		if logger == nil {
			m.refused = append(m.refused, errors.New("WithLogger(nil): must be a logger; slog.DiscardHandler is one that drops everything"))
			return
		}
		m.undecided.Logger = logger
	}
}

// New is a middleware that asks the validator.
func New(validator Validator, opts ...Option) (*Middleware, error) {
	middleware := &Middleware{
		validator: validator,
		exempt:    map[string]bool{},
		onDenied:  func(*http.Request, tenantauth.Validation, error) {},
		undecided: &admission.UndecidedLog{Logger: slog.Default(), Now: time.Now},
		preflight: true,
	}
	if client, ok := validator.(*tenantauth.Client); validator == nil || ok && client == nil {
		middleware.refused = append(middleware.refused, errors.New("the validator is nil"))
	}
	for _, option := range opts {
		if option == nil {
			middleware.refused = append(middleware.refused, errors.New("an option is nil; leave it out"))
			continue
		}
		option(middleware)
	}
	if err := errors.Join(middleware.refused...); err != nil {
		return nil, fmt.Errorf("httpauth: %w", err)
	}
	return middleware, nil
}

// Require lets requests through whose key holds all of the scopes. It panics if a scope can be none, as net/http does
// with patterns: that is a mistake in the program, and shows when it starts.
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
			key, reply := m.where.Key(r.Header.Values)
			if reply.Class == admission.NoCredentials && m.preflight && isPreflight(r) {
				next.ServeHTTP(w, r)
				return
			}
			if reply.Class != admission.Admitted {
				refuse(w, reply)
				return
			}
			validation, err := m.validator.ValidateKey(r.Context(), key, scopes...)
			principal, denied := validation.Principal()
			if err != nil || denied != nil {
				m.deny(w, r, validation, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(tenantauth.ContextWithPrincipal(r.Context(), principal)))
		})
	}
}

func (m *Middleware) deny(w http.ResponseWriter, r *http.Request, validation tenantauth.Validation, err error) {
	reply := admission.Of(validation, err)
	if reply.Class == admission.Undecided {
		m.undecided.Note(r.Context(), err)
	}
	m.onDenied(r, validation, err)
	refuse(w, reply)
}

// isPreflight tells whether a browser asks what it may ask.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}
