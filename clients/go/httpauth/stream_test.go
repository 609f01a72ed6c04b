package httpauth_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

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
	// The half must have been written when the stream ends.
	text := make([]byte, len("data: 1\n\ndata: half of an event\n"))
	if _, err := io.ReadFull(response.Body, text); err != nil || string(text) != "data: 1\n\ndata: half of an event\n" {
		t.Errorf("%q, %v", text, err)
	}
	s.revoke()
	if text := rest(t, response.Body); text != "" {
		t.Errorf("%q follows", text)
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
	s := startStreaming(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = sendEvent(w, "1")
		returned <- sendEvent(w, "2")
	})
	listener := &pipes{s.server.Listener, make(chan net.Conn, 1)}
	server := &http.Server{Handler: s.server.Config.Handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer func() {
		close(listener.accepted)
		_ = server.Close()
	}()
	customer, accepted := net.Pipe()
	listener.accepted <- accepted
	if _, err := io.WriteString(customer, "GET / HTTP/1.1\r\nHost: server\r\nAuthorization: Bearer ta_key\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for line, lines := "", bufio.NewReader(customer); line != "data: 1\n"; {
		var err error
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	// From now on, the customer does not read.
	s.revoke()
	select {
	case err := <-returned:
		if err == nil {
			t.Error("want an error")
		}
	case <-s.ctx.Done():
		t.Error("the write is still blocked")
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
		"preflight":   {http.MethodOptions, "/", http.Header{"Origin": {"https://app.example.com"}, "Access-Control-Request-Method": {"GET"}}, 418},
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
