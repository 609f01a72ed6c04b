package tenantauth_test

import (
	"context"
	"errors"
	"fmt"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func ExampleClient_NewPrincipalVerifier() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	verifier, err := client.NewPrincipalVerifier("billing")
	if err != nil {
		panic(err)
	}
	token := "the header X-Tenant-Principal of the request"
	principal, err := verifier.Verify(context.Background(), token, "orders:read")
	var denied *tenantauth.Denied
	switch {
	case err == nil:
		fmt.Println("welcome,", principal.TenantID)
	case errors.Is(err, tenantauth.ErrInvalidPrincipal):
		fmt.Println("401")
	case errors.As(err, &denied):
		fmt.Println("403, missing", denied.MissingScopes)
	default:
		fmt.Println("503, retry after 1 s")
	}
}

func ExampleClient_Guard() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	principal, err := client.RequireKey(context.Background(), "the key of the customer", "orders:read")
	if err != nil {
		return
	}
	guarded, release, err := client.Guard(context.Background(), principal)
	if err != nil {
		return
	}
	defer release()
	<-guarded.Done()
	if ended, ok := tenantauth.EndOf(guarded); ok {
		code, reason := ended.WebSocketClose()
		fmt.Println(ended.Code(), code, reason)
	}
}
