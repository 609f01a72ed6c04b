// Package httpauth lets only requests with a good key through to an http.Handler.
//
//	auth := httpauth.New(client)
//	mux.Handle("GET /orders", auth.Require("orders:read")(orders))
//
// The handler finds who calls with tenantauth.PrincipalFrom(r.Context()).
package httpauth

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
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
	header    string
	onDenied  func(*http.Request, tenantauth.Validation, error)
}

// Option changes how a [Middleware] works.
type Option func(*Middleware)

// WithHeader takes the key from a header of its own, such as X-Api-Key, instead of "Authorization: Bearer …".
func WithHeader(name string) Option {
	return func(m *Middleware) { m.header = name }
}

// WithOnDenied is told of each request with a key that was not let through: err when nothing could be decided.
func WithOnDenied(onDenied func(*http.Request, tenantauth.Validation, error)) Option {
	return func(m *Middleware) { m.onDenied = onDenied }
}

// New is a middleware that asks the validator.
func New(validator Validator, opts ...Option) *Middleware {
	middleware := &Middleware{validator: validator, onDenied: func(*http.Request, tenantauth.Validation, error) {}}
	for _, option := range opts {
		option(middleware)
	}
	return middleware
}

// Require lets requests through whose key holds all of the scopes.
func (m *Middleware) Require(scopes ...string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key := m.key(r)
			if key == "" {
				m.refuse(w, admission.NoKey())
				return
			}
			validation, err := m.validator.ValidateKey(r.Context(), key, scopes...)
			reply := admission.Of(validation, err)
			if reply.Class != admission.Admitted {
				m.onDenied(r, validation, err)
				m.refuse(w, reply)
				return
			}
			principal, _ := validation.Principal()
			next.ServeHTTP(w, r.WithContext(tenantauth.ContextWithPrincipal(r.Context(), principal)))
		})
	}
}

func (m *Middleware) key(r *http.Request) tenantauth.Key {
	name := m.header
	if name == "" {
		name = "Authorization"
	}
	values := r.Header.Values(name)
	// Two keys are no key: which one would it be?
	if len(values) != 1 {
		return ""
	}
	if m.header != "" {
		return tenantauth.Key(strings.TrimSpace(values[0]))
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return tenantauth.Key(strings.TrimSpace(key))
}

var statuses = map[admission.Class]int{
	admission.Unauthenticated: http.StatusUnauthorized,
	admission.Forbidden:       http.StatusForbidden,
	admission.Throttled:       http.StatusTooManyRequests,
	admission.Undecided:       http.StatusServiceUnavailable,
	admission.Defect:          http.StatusInternalServerError,
}

// refuse answers with a problem (RFC 9457) and the challenge (RFC 6750) that goes with it.
func (m *Middleware) refuse(w http.ResponseWriter, reply admission.Reply) {
	status := statuses[reply.Class]
	header := w.Header()
	if challenge := challenge(reply); challenge != "" {
		header.Set("WWW-Authenticate", challenge)
	}
	if reply.RetryAfter > 0 {
		header.Set("Retry-After", seconds(reply.RetryAfter))
	}
	// A verdict is for this key and this moment; nobody between should keep it.
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	problem := map[string]any{"title": reply.Message, "status": status, "reason": reply.Reason}
	if len(reply.MissingScopes) > 0 {
		problem["missing_scopes"] = reply.MissingScopes
	}
	// The customer may be gone: nobody is left to tell.
	_ = json.NewEncoder(w).Encode(problem)
}

func challenge(reply admission.Reply) string {
	switch {
	case reply.Class == admission.Unauthenticated && reply.Reason == admission.NoKey().Reason:
		return "Bearer"
	case reply.Class == admission.Unauthenticated:
		return `Bearer error="invalid_token"`
	case len(reply.MissingScopes) > 0:
		return fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, strings.Join(reply.MissingScopes, " "))
	default:
		return ""
	}
}

// seconds rounds up: earlier than asked for would be too early.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
