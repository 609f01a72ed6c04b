// Command httpapi is an example of an HTTP API for customers with API keys: it lists and places orders, and records
// each call as usage.
//
//	go run ./examples/httpapi -tenant-auth 127.0.0.1:50051 -listen 127.0.0.1:8080
//	curl -H "Authorization: Bearer $KEY" 127.0.0.1:8080/orders
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

func main() {
	endpoints := flag.String("tenant-auth", "127.0.0.1:50051", "endpoints of tenant-auth: host:port,host:port")
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	proxies := flag.String("trusted-proxies", "", "networks of the proxies in front of this server: 10.0.0.0/8,2001:db8::/32")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", *listen)
	if err == nil {
		slog.Info("serving", "address", listener.Addr().String())
		err = run(ctx, *endpoints, listener, strings.FieldsFunc(*proxies, func(char rune) bool { return char == ',' })...)
	}
	if err != nil {
		slog.Error("server failed", "error", err)
		os.Exit(1)
	}
}

// run serves until the context ends, and then sends the recorded usage.
func run(ctx context.Context, endpoints string, listener net.Listener, proxies ...string) error {
	client, err := tenantauth.New(endpoints, tenantauth.WithUserAgent("orders-api"), tenantauth.WithLogger(slog.Default()))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	recorder, err := client.NewRecorder()
	if err != nil {
		return err
	}
	guarded, err := handler(client, recorder, proxies...)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: guarded, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = server.Shutdown(grace)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if unsent := recorder.Close(last); len(unsent) > 0 {
		// A real service would store the batches on disk and send them again with their ids.
		err = errors.Join(err, fmt.Errorf("%d usage batches not sent", len(unsent)))
	}
	return err
}

func handler(validator httpauth.Validator, recorder *tenantauth.Recorder, proxies ...string) (http.Handler, error) {
	auth, err := httpauth.New(validator, httpauth.WithTrustedProxies(proxies...))
	if err != nil {
		return nil, err
	}
	all := &orders{recorder: recorder, byTenant: map[string][]order{}}
	mux := http.NewServeMux()
	mux.Handle("GET /orders", auth.Require("demo:read")(http.HandlerFunc(all.list)))
	mux.Handle("POST /orders", auth.Require("demo:write")(http.HandlerFunc(all.place)))
	return mux, nil
}

type order struct {
	Item string `json:"item"`
}

// orders are stored by tenant. The tenant comes from the principal, never from the request body.
type orders struct {
	recorder *tenantauth.Recorder

	mu       sync.Mutex
	byTenant map[string][]order
}

func (o *orders) list(w http.ResponseWriter, r *http.Request) {
	principal, _ := tenantauth.PrincipalFrom(r.Context())
	o.mu.Lock()
	listed := append([]order{}, o.byTenant[principal.TenantID]...)
	o.mu.Unlock()
	o.count(principal, "api.orders.list")
	reply(w, http.StatusOK, map[string]any{"tenant": principal.TenantName, "orders": listed})
}

func (o *orders) place(w http.ResponseWriter, r *http.Request) {
	principal, _ := tenantauth.PrincipalFrom(r.Context())
	var placed order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&placed); err != nil || placed.Item == "" {
		reply(w, http.StatusBadRequest, map[string]any{"title": "an order needs an item"})
		return
	}
	o.mu.Lock()
	o.byTenant[principal.TenantID] = append(o.byTenant[principal.TenantID], placed)
	o.mu.Unlock()
	o.count(principal, "api.orders.place")
	reply(w, http.StatusCreated, placed)
}

func (o *orders) count(principal tenantauth.Principal, metric string) {
	err := o.recorder.Record(tenantauth.UsageEvent{TenantID: principal.TenantID, Metric: metric, Quantity: 1})
	if err != nil {
		// The request still succeeds; an operator has to look into the error.
		slog.Error("usage event not recorded", "tenant_id", principal.TenantID, "metric", metric, "error", err)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The error is ignored because the client may have disconnected.
	_ = json.NewEncoder(w).Encode(body)
}
