package websockettest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// echo returns each message until the guard ends the stream, and then closes it with the verdict.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	// The library closes a connection without a status when the context of a call ends, so the calls get one that lasts.
	defer context.AfterFunc(r.Context(), func() {
		if ended, ok := tenantauth.EndOf(r.Context()); ok {
			code, reason := ended.WebSocketClose()
			_ = conn.Close(websocket.StatusCode(code), reason)
		}
	})()
	ctx := context.WithoutCancel(r.Context())
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil || conn.Write(ctx, kind, message) != nil {
			return
		}
	}
}

func TestWebSocketIsClosedWithTheVerdict(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	service := fake.Start(t)
	service.ServeWatch()
	service.Put("ta_key", fake.Valid("key_1", "orders:read"))
	client, err := tenantauth.New(service.Address(), tenantauth.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	watch := <-service.Streams()
	auth, err := httpauth.New(client)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(auth.RequireStream("orders:read")(http.HandlerFunc(echo)))
	defer server.Close()
	connect := func() *websocket.Conn {
		conn, _, err := websocket.Dial(ctx, server.URL, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer ta_key"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, message, err := conn.Read(ctx); err != nil || string(message) != "hello" {
			t.Fatalf("%q, %v", message, err)
		}
		return conn
	}
	closed := func(conn *websocket.Conn, code websocket.StatusCode, reason string) {
		t.Helper()
		_, _, err := conn.Read(ctx)
		var received websocket.CloseError
		if !errors.As(err, &received) || received.Code != code || received.Reason != reason {
			t.Errorf("%v", err)
		}
	}
	conn := connect()
	service.Put("ta_key", fake.At(12, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1")))
	watch.Invalidate(12, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
	closed(conn, websocket.StatusPolicyViolation, "REVOKED")
	service.Put("ta_key", fake.At(13, fake.Valid("key_1", "orders:read")))
	watch.Invalidate(13, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
	for client.WatchState().Revision < 13 {
		time.Sleep(time.Millisecond)
	}
	conn = connect()
	_ = client.Close()
	closed(conn, websocket.StatusTryAgainLater, "UNDECIDED")
}
