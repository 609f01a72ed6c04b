package httpauth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// revokedEvent is the final event of the stream of a revoked key.
const revokedEvent = "event: end\ndata: {\"code\":\"REVOKED\",\"detail\":\"The API key is not valid.\"}\n\n"

// streaming is an HTTP server whose handler is guarded, with a fake service that can report a revocation.
type streaming struct {
	t      *testing.T
	ctx    context.Context
	fake   *fake.Server
	watch  *fake.Stream
	client *tenantauth.Client
	server *httptest.Server
}

func startStreaming(t *testing.T, handler http.HandlerFunc, options ...httpauth.Option) *streaming {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s := &streaming{t: t, ctx: ctx, fake: fake.Start(t)}
	s.fake.ServeWatch()
	s.fake.Put("ta_key", fake.Valid("key_1", "orders:read"))
	client, err := tenantauth.New(s.fake.Address(), tenantauth.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	s.client = client
	s.watch = <-s.fake.Streams()
	s.watch.Heartbeat(10)
	for !client.WatchState().Live {
		time.Sleep(time.Millisecond)
	}
	s.server = httptest.NewServer(middleware(t, client, options...).RequireStream("orders:read")(handler))
	t.Cleanup(s.server.Close)
	return s
}

// open sends a request and returns the response as soon as its header arrives.
func (s *streaming) open() *http.Response {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.server.URL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header = bearer.Clone()
	response, err := s.server.Client().Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func (s *streaming) revoke() {
	s.fake.Put("ta_key", fake.At(12, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1")))
	s.watch.Invalidate(12, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
}

func (s *streaming) restore() {
	s.fake.Put("ta_key", fake.At(13, fake.Valid("key_1", "orders:read")))
	s.watch.Invalidate(13, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
	for s.client.WatchState().Revision < 13 {
		time.Sleep(time.Millisecond)
	}
}

func rest(t *testing.T, body io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("%q, %v", text, err)
	}
	return string(text)
}

// sendEvent sends one event immediately.
func sendEvent(w http.ResponseWriter, data string) error {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

func TestEventStreamOfARevokedKeyGetsAFinalEvent(t *testing.T) {
	causes := make(chan error, 1)
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		_ = sendEvent(w, "1")
		<-r.Context().Done()
		causes <- context.Cause(r.Context())
	})
	response := s.open()
	body := bufio.NewReader(response.Body)
	// The first event is not delayed: the handler waits after it.
	if line, err := body.ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Fatalf("%q, %v", line, err)
	}
	s.revoke()
	if text := rest(t, body); text != "\n"+revokedEvent {
		t.Errorf("%q", text)
	}
	var ended *tenantauth.Ended
	if err := <-causes; !errors.As(err, &ended) || ended.Verdict != tenantauth.Revoked {
		t.Errorf("%v", err)
	}
	s.restore()
	// The connection is used again.
	if response = s.open(); response.StatusCode != http.StatusOK {
		t.Errorf("%d", response.StatusCode)
	}
	_ = s.client.Close()
	if text := rest(t, response.Body); !strings.HasSuffix(text, "event: end\ndata: {\"code\":\"UNDECIDED\",\"detail\":\"The API key could not be checked now.\"}\n\n") {
		t.Errorf("%q", text)
	}
}

func TestNothingFollowsTheFinalEvent(t *testing.T) {
	failures := make(chan error, 3)
	proceed := make(chan struct{})
	s := startStreaming(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = sendEvent(w, "1")
		// This handler does not care about its context.
		<-proceed
		failures <- sendEvent(w, "2")
		w.WriteHeader(http.StatusTeapot)
		failures <- http.NewResponseController(w).Flush()
		_, _, err := http.NewResponseController(w).Hijack()
		failures <- err
	})
	response := s.open()
	s.revoke()
	text := make([]byte, len("data: 1\n\n"+revokedEvent))
	if _, err := io.ReadFull(response.Body, text); err != nil || string(text) != "data: 1\n\n"+revokedEvent {
		t.Errorf("%q, %v", text, err)
	}
	close(proceed)
	if text := rest(t, response.Body); text != "" {
		t.Errorf("%q follows", text)
	}
	for range 3 {
		var ended *tenantauth.Ended
		if err := <-failures; !errors.As(err, &ended) {
			t.Errorf("%v", err)
		}
	}
}

func TestFinalEventIsNeverInsideAnotherOne(t *testing.T) {
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		_ = sendEvent(w, "1")
		_, _ = io.WriteString(w, "data: half of an event\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	response := s.open()
	s.revoke()
	if text := rest(t, response.Body); text != "data: 1\n\ndata: half of an event\n" {
		t.Errorf("%q", text)
	}
}

func TestResponseThatHasNotBegunBecomesARejection(t *testing.T) {
	entered := make(chan struct{}, 1)
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		entered <- struct{}{}
		<-r.Context().Done()
		_, _ = io.WriteString(w, "{}")
	})
	go func() {
		<-entered
		s.revoke()
	}()
	response := s.open()
	if text := rest(t, response.Body); response.StatusCode != http.StatusUnauthorized || !strings.Contains(text, `"code":"REVOKED"`) ||
		response.Header.Get("Content-Type") != "application/problem+json" || response.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
		t.Errorf("%d %v %s", response.StatusCode, response.Header, text)
	}
}

func TestOtherResponsesAreAborted(t *testing.T) {
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "the first half")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	response := s.open()
	s.revoke()
	if text, err := io.ReadAll(response.Body); err == nil || string(text) != "the first half" {
		t.Errorf("%q, %v: the response looks complete", text, err)
	}
}

func TestStreamOfACustomerWhoDoesNotReadEndsToo(t *testing.T) {
	returned := make(chan error, 1)
	blocking := make(chan struct{}, 1)
	s := startStreaming(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			// The buffers of the connection are full sooner or later.
			if err := sendEvent(w, strings.Repeat("x", 1<<20)); err != nil {
				returned <- err
				return
			}
			select {
			case blocking <- struct{}{}:
			default:
			}
		}
	})
	_ = s.open()
	<-blocking
	s.revoke()
	select {
	case err := <-returned:
		if err == nil {
			t.Error("want an error")
		}
	case <-s.ctx.Done():
		t.Error("the handler did not return")
	}
}

func TestHijackedConnectionIsLeftToTheHandler(t *testing.T) {
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = buffered.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		_ = buffered.Flush()
		<-r.Context().Done()
		if ended, ok := tenantauth.EndOf(r.Context()); ok {
			code, reason := ended.WebSocketClose()
			_, _ = fmt.Fprintf(conn, "%d %s", code, reason)
		}
		_ = conn.Close()
	})
	response := s.open()
	s.revoke()
	if text := rest(t, response.Body); text != "1008 REVOKED" {
		t.Errorf("%q", text)
	}
}

func TestGuardIsReleasedWhenTheHandlerReturns(t *testing.T) {
	contexts := make(chan context.Context, 1)
	s := startStreaming(t, func(w http.ResponseWriter, r *http.Request) {
		_ = sendEvent(w, "1")
		contexts <- r.Context()
	})
	if text := rest(t, s.open().Body); text != "data: 1\n\n" {
		t.Errorf("%q", text)
	}
	guarded := <-contexts
	<-guarded.Done()
	if ended, ok := tenantauth.EndOf(guarded); ok {
		t.Errorf("%v", ended)
	}
}

func TestRequestsWithoutAKeyAreNotGuarded(t *testing.T) {
	s := startStreaming(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, httpauth.WithExempt("/public"))
	for name, test := range map[string]struct {
		method, path string
		header       http.Header
		status       int
	}{
		"exempt path": {http.MethodGet, "/public", nil, 418},
		"preflight":   {http.MethodOptions, "/", http.Header{"Access-Control-Request-Method": {"GET"}}, 418},
		"without key": {http.MethodGet, "/", nil, 401},
		"with key":    {http.MethodGet, "/", bearer, 418},
	} {
		request, err := http.NewRequestWithContext(s.ctx, test.method, s.server.URL+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = test.header
		response, err := s.server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
}

func TestStreamsNeedAValidatorThatGuards(t *testing.T) {
	panics := func(auth *httpauth.Middleware) (text any) {
		defer func() { text = recover() }()
		auth.RequireStream("orders:read")
		return nil
	}
	if panics(middleware(t, &stub{})) == nil || panics(behindProxy(t, &verifierStub{})) == nil {
		t.Error("want a panic")
	}
	if _, err := httpauth.New(&stub{}, httpauth.WithGuard(tenantauth.WithGuardTolerance(0))); err == nil {
		t.Error("invalid option of a guard: want an error")
	}
}
