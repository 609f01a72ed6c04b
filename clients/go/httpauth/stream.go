package httpauth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

// Guarder guards streams: a *tenantauth.Client, or a replacement in tests.
type Guarder interface {
	Guard(ctx context.Context, principal tenantauth.Principal, opts ...tenantauth.GuardOption) (context.Context, context.CancelFunc, error)
}

// WithGuard sets the options of the guards of [Middleware.RequireStream].
func WithGuard(opts ...tenantauth.GuardOption) Option {
	return func(m *Middleware) {
		m.guard, m.errs = append(m.guard, opts...), append(m.errs, tenantauth.CheckGuardOptions(opts...))
	}
}

// RequireStream is [Middleware.Require] for handlers of live streams. While the handler runs, the stream is guarded: see
// [tenantauth.Client.Guard]. When the key may no longer be used,
//
//   - the context of the request is cancelled, and the handler must return; [tenantauth.EndOf] has the reason,
//   - a text/event-stream gets a final event, as by [WriteEnd], and a blocked write ends after at most 1 s,
//   - writes fail with the cause, a [*tenantauth.Ended],
//   - a response that has not begun becomes the rejection for the verdict,
//   - any other response is aborted when the handler returns, so that it does not look complete.
//
// A hijacked connection, such as a WebSocket, is left to the handler: see [tenantauth.Ended.WebSocketClose].
//
// RequireStream panics if a scope is invalid, or if the validator is not a [Guarder]: principal tokens cannot be guarded,
// because they have no key.
func (m *Middleware) RequireStream(scopes ...string) func(http.Handler) http.Handler {
	guarder, ok := m.validator.(Guarder)
	if !ok {
		panic("httpauth: RequireStream: the validator cannot guard streams; use a *tenantauth.Client")
	}
	require := m.Require(scopes...)
	return func(next http.Handler) http.Handler {
		return require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			principal, ok := tenantauth.PrincipalFrom(r.Context())
			if !ok {
				// The request needs no key.
				next.ServeHTTP(w, r)
				return
			}
			guarded, release, err := guarder.Guard(r.Context(), principal, m.guard...)
			if err != nil {
				m.deny(w, r, tenantauth.ConsumeResult{}, err)
				return
			}
			defer release()
			defer m.logUndecided(guarded)
			serveStream(w, r.WithContext(guarded), next)
		}))
	}
}

// logUndecided logs a stream that ended without a decision.
func (m *Middleware) logUndecided(guarded context.Context) {
	if ended, ok := tenantauth.EndOf(guarded); ok && ended.Verdict == 0 {
		m.undecided.Log(guarded, ended)
	}
}

// serveStream serves a request whose context is guarded.
func serveStream(w http.ResponseWriter, r *http.Request, next http.Handler) {
	stream := &streamWriter{ResponseWriter: w, controller: http.NewResponseController(w), ctx: r.Context()}
	finished := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		defer close(finished)
		stream.finish()
	})
	func() {
		// The response must not be used after this function has returned, even by a panic.
		defer func() {
			switch {
			case !stop():
				<-finished
			case r.Context().Err() != nil:
				// The handler has seen the end before the function above was started.
				stream.finish()
			}
		}()
		next.ServeHTTP(stream, r)
	}()
	ended, ok := tenantauth.EndOf(r.Context())
	switch {
	case !ok || stream.isHijacked.Load() || stream.isEventStream:
	case stream.hasBegun:
		panic(http.ErrAbortHandler)
	default:
		writeProblem(w, admission.ReplyForEnd(ended))
	}
}

// WriteEnd writes the final event of server-sent events, with the code and the detail of the rejection, and flushes it:
//
//	event: end
//	data: {"code":"REVOKED","detail":"The API key is not valid."}
//
// It is for handlers that call [tenantauth.Client.Guard] themselves; [Middleware.RequireStream] does it.
func WriteEnd(w http.ResponseWriter, ended *tenantauth.Ended) error {
	reply := admission.ReplyForEnd(ended)
	data, err := json.Marshal(struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{reply.Code, reply.Detail})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: end\ndata: %s\n\n", data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
