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
