package httpauth_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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

// pipes is a listener for connections without any buffer.
type pipes struct {
	net.Listener
	accepted chan net.Conn
}

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.accepted
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
