package httpauth_test

import (
	"net/http"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

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
