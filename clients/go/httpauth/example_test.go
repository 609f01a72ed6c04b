package httpauth_test

import (
	"fmt"
	"net/http"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

func ExampleMiddleware_RequireStream() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	auth, err := httpauth.New(client)
	if err != nil {
		panic(err)
	}
	orders := make(chan string)
	events := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case <-r.Context().Done():
				return
			case order := <-orders:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", order)
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders/events", auth.RequireStream("orders:read")(events))
}

func ExampleNewPrincipal() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	verifier, err := client.NewPrincipalVerifier("billing")
	if err != nil {
		panic(err)
	}
	auth, err := httpauth.NewPrincipal(verifier, httpauth.WithExempt("/healthz"))
	if err != nil {
		panic(err)
	}
	orders := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, _ := tenantauth.PrincipalFrom(r.Context())
		_, _ = w.Write([]byte(principal.TenantID))
	})
	mux := http.NewServeMux()
	mux.Handle("GET /orders", auth.Require("orders:read")(orders))
}
