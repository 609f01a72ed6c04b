package tenantauth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func (r *rig) sends(want string) {
	r.t.Helper()
	if _, err := r.client.ServerInfo(r.ctx); err != nil {
		r.t.Fatal(err)
	}
	if sent := r.service.Header("GetServerInfo").Get("authorization"); !slices.Equal(sent, []string{"Bearer " + want}) {
		r.t.Errorf("%q was sent", sent)
	}
}

func TestTokenFileIsReadPerCallAndLastValidTokenStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\ufeffone\r\n")
	var log bytes.Buffer
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithCallerTokenFile(path), tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	r.sends("one")
	longest := strings.Repeat("t", 4_096)
	write(strings.Repeat("\n", 100) + longest)
	r.sends(longest)
	write(" two \n")
	r.sends("two")
	for _, junk := range []string{
		"", "\n", "secret-one\nsecret-two", "secret ä", strings.Repeat("a", 5_000), "secret" + strings.Repeat(" ", 5_000) + "secret", "secret" + strings.Repeat(" ", 100_000),
	} {
		write(junk)
		r.sends("two")
		r.sends("two")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.sends("two")
	write("three")
	r.sends("three")
	if lines := strings.Count(log.String(), "last valid one"); lines < 6 || lines > 8 || strings.Contains(log.String(), "secret") {
		t.Errorf("logged %d times:\n%s", lines, log.String())
	}
}

func TestTimeoutDuringTokenReadIsNotATokenError(t *testing.T) {
	var log bytes.Buffer
	waits := true
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
		tenantauth.WithCallerTokenFunc(func(ctx context.Context) (string, error) {
			if waits {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "one", nil
		}))
	expect := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(r.ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := r.client.ServerInfo(ctx); !errors.Is(err, tenantauth.ErrDeadline) {
			t.Errorf("%v", err)
		}
	}
	expect()
	waits = false
	r.sends("one")
	waits = true
	expect()
	if log.Len() > 0 {
		t.Errorf("%s", log.String())
	}
}

func TestFailingTokenFuncIsUnauthenticatedOrUsesLastToken(t *testing.T) {
	token, failure := "", errors.New("the vault is sealed")
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithCallerTokenFunc(func(context.Context) (string, error) { return token, failure }))
	for range 2 {
		_, err := r.client.ServerInfo(r.ctx)
		if made := toError(t, err); made.Kind != tenantauth.ErrUnauthenticated || !strings.Contains(made.Message, "sealed") {
			t.Errorf("%v", err)
		}
		// An invalid token is handled like a failure.
		token, failure = "two\nlines", nil
		_, err = r.client.ServerInfo(r.ctx)
		if made := toError(t, err); made.Kind != tenantauth.ErrUnauthenticated || strings.Contains(made.Message, "lines") {
			t.Errorf("%v", err)
		}
		failure = errors.New("the vault is sealed")
	}
	// A gRPC status comes from another service and says nothing about tenant-auth.
	for _, code := range []codes.Code{codes.Unavailable, codes.NotFound, codes.DeadlineExceeded} {
		failure = status.Error(code, "the vault is sealed")
		_, err := r.client.ServerInfo(r.ctx)
		if made := toError(t, err); made.Kind != tenantauth.ErrUnauthenticated || !strings.Contains(made.Message, "sealed") {
			t.Errorf("%v: %v", code, err)
		}
	}
	r.expectCalls("GetServerInfo", 0)
	token, failure = "\tone\n", nil
	r.sends("one")
	token, failure = "", errors.New("the vault is sealed")
	r.sends("one")
}
