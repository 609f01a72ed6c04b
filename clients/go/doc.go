// Package tenantauth asks tenant-auth whether a key or a session is good, whose it is, and what it may do.
//
//	client, err := tenantauth.New("127.0.0.1:50051")
//	if err != nil { … }
//	defer client.Close()
//	principal, err := client.RequireKey(ctx, tenantauth.Key(presented), "orders:read")
//
// An error is either a [*Denied], which is a decision, or an [*Error]: then nothing was decided, whatever the reason, and
// it must never be taken for "no such key".
//
// One client serves a whole process. It may be used by any number of goroutines, keeps answers in a near-cache, and
// must be closed.
package tenantauth
