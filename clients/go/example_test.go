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

func ExampleClient_Consume() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	result, err := client.Consume(context.Background(), tenantauth.ConsumeRequest{
		Credential: tenantauth.KeyQuery{Key: "the key of the customer", Scopes: []string{"orders:read"}},
		Costs:      []tenantauth.Cost{{Metric: "api.calls", Amount: 1}},
	})
	if err != nil {
		fmt.Println("503")
		return
	}
	if after, ok := result.RetryAfter(); ok {
		fmt.Println("429, retry after", after)
		return
	}
	principal, err := result.Principal()
	if err != nil {
		fmt.Println("401 or 403")
		return
	}
	fmt.Println("welcome,", principal.TenantName)
}

func ExampleClient_Reserve() {
	client, err := tenantauth.New("127.0.0.1:50051")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	reservation, err := client.Reserve(context.Background(), tenantauth.ReserveRequest{
		Credential: tenantauth.KeyQuery{Key: "the key of the customer"},
		Costs:      []tenantauth.Cost{{Metric: "llm.tokens", Amount: 4_000}},
	})
	if err != nil {
		return
	}
	defer func() { _ = reservation.Close() }()
	if _, err := reservation.Principal(); err != nil {
		return
	}
	used := int64(1_234)
	settlement, err := reservation.Settle(context.Background(), tenantauth.Cost{Metric: "llm.tokens", Amount: used})
	if err != nil {
		return
	}
	fmt.Println(settlement.State)
}
