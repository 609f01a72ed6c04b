package tenantauth_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestClosedClientRejectsEveryCall(t *testing.T) {
	r := start(t)
	r.validate()
	recorder := newRecorder(t, r.client)
	raw := tenantauthv1.NewInfoServiceClient(r.client.Raw())
	limiter := newLimiter(t, r.client)
	for range 2 {
		if err := r.client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	listed := func(all func(func(tenantauth.Session, error) bool)) (err error) {
		for _, err = range all {
		}
		return err
	}
	for name, call := range map[string]func() error{
		"a key that is near": func() error { _, err := r.client.ValidateKey(r.ctx, key); return err },
		"a key":              func() error { _, err := r.client.ValidateKey(r.ctx, "another"); return err },
		"require":            func() error { _, err := r.client.RequireKey(r.ctx, key); return err },
		"malformed":          func() error { _, err := r.client.ValidateKey(r.ctx, "\xff"); return err },
		"keys":               func() error { _, err := r.client.ValidateKeys(r.ctx, nil); return err },
		"a session":          func() error { _, err := r.client.ValidateSession(r.ctx, "s", ""); return err },
		"bind":               func() error { _, err := r.client.BindSession(r.ctx, tenantauth.Bind{}); return err },
		"unbind":             func() error { _, err := r.client.UnbindSession(r.ctx, "s", "t"); return err },
		"list":               func() error { return listed(r.client.ListSessions(r.ctx, "t")) },
		"usage":              func() error { _, err := r.client.RecordUsage(r.ctx, tenantauth.UsageBatch{}); return err },
		"info":               func() error { _, err := r.client.ServerInfo(r.ctx); return err },
		"record":             func() error { return recorder.Record(event("calls")) },
		"a recorder":         func() error { _, err := r.client.NewRecorder(); return err },
		"consume":            func() error { _, err := r.client.Consume(r.ctx, consumption(1)); return err },
		"consume many":       func() error { _, err := r.client.ConsumeMany(r.ctx, nil); return err },
		"reserve":            func() error { _, err := r.client.Reserve(r.ctx, tenantauth.ReserveRequest{}); return err },
		"settle":             func() error { _, err := r.client.SettleReservation(r.ctx, "id"); return err },
		"cancel":             func() error { _, err := r.client.CancelReservation(r.ctx, "id"); return err },
		"tenant limits":      func() error { _, err := r.client.TenantLimitState(r.ctx, "t"); return err },
		"key limits":         func() error { _, err := r.client.KeyLimitState(r.ctx, "k"); return err },
		"a limiter":          func() error { _, err := limiter.Consume(r.ctx, ofKey, 1); return err },
		"raw": func() error {
			_, err := raw.GetServerInfo(r.ctx, &tenantauthv1.GetServerInfoRequest{})
			return err
		},
		"a raw stream": func() error {
			_, err := tenantauthv1.NewWatchServiceClient(r.client.Raw()).Watch(r.ctx, &tenantauthv1.WatchRequest{})
			return err
		},
	} {
		if err := call(); !errors.Is(err, tenantauth.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseWaitsForCallsInFlight(t *testing.T) {
	r := start(t, tenantauth.WithTimeout(testTimeout))
	release := make(chan struct{})
	r.service.Before(func(context.Context, string, any) error {
		<-release
		return nil
	})
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := r.client.RequireKey(r.ctx, key); err != nil {
			t.Errorf("through the near cache: %v", err)
		}
	})
	all.Go(func() {
		if _, err := r.client.ServerInfo(r.ctx); err != nil {
			t.Errorf("call: %v", err)
		}
	})
	all.Go(func() {
		raw := tenantauthv1.NewInfoServiceClient(r.client.Raw())
		_, err := raw.GetServerInfo(r.ctx, &tenantauthv1.GetServerInfoRequest{})
		if err != nil {
			t.Errorf("raw call: %v", err)
		}
	})
	r.await("the calls", func() bool {
		return r.service.Calls("ValidateKey") == 1 && r.service.Calls("GetServerInfo") == 2
	})
	all.Go(func() { _ = r.client.Close() })
	r.await("the client is closed", func() bool {
		_, err := r.client.ValidateKey(r.ctx, "\xff")
		return errors.Is(err, tenantauth.ErrClosed)
	})
	close(release)
	all.Wait()
}

func TestCloseDuringCallsLosesNone(t *testing.T) {
	client, real := connect(t, tenantauth.WithoutNearCache())
	const callers = 32
	answered := make(chan struct{}, callers)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for {
				switch _, err := client.RequireKey(t.Context(), tenantauth.Key(real.Key)); {
				case errors.Is(err, tenantauth.ErrClosed):
					return
				case err != nil:
					t.Errorf("%v", err)
					return
				}
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	for range callers {
		<-answered
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

func TestCloseSendsEventsOfOpenRecorders(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	r.record(newRecorder(t, r.client), "calls", 3)
	if err := r.client.Close(); err != nil {
		t.Fatal(err)
	}
	if ids, batches := r.service.Recorded(); len(ids) != 1 || len(batches[ids[0]]) != 3 {
		t.Errorf("%v", batches)
	}
}

func TestCloseLogsNumberOfUnsentEvents(t *testing.T) {
	var log bytes.Buffer
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	r.record(newRecorder(t, r.client), "calls", 3)
	r.service.Stop()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = r.client.Close()
	}()
	r.await("the five seconds are over", func() bool {
		r.clock.Advance(time.Second)
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})
	if !strings.Contains(log.String(), "events=3") {
		t.Errorf("%s", log.String())
	}
}
