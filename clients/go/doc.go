// Package tenantauth is the Go client of tenant-auth. It validates API keys and sessions, takes amounts from their limits, and
// records usage.
//
//	client, err := tenantauth.New("127.0.0.1:50051")
//	if err != nil { … }
//	defer client.Close()
//	principal, err := client.RequireKey(ctx, tenantauth.Key(presented), "orders:read")
//
// An error is either a [*Denied], which is a decision, or an [*Error], which means that no decision was made. Never
// treat an [*Error] as "no such key". A [PrincipalVerifier] also returns [*PrincipalError].
//
// Use one client per process. It is safe for concurrent use, caches answers in a near cache, and must be closed.
package tenantauth
