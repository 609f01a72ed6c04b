// Package tenantauth asks tenant-auth whether a key or a session is good, whose it is, and what it may do.
//
//	client, err := tenantauth.New("127.0.0.1:50051")
//	if err != nil { … }
//	defer client.Close()
//	validation, err := client.ValidateKey(ctx, tenantauth.Key(presented), "orders:read")
//
// A denial is an answer: err is nil, and the verdict is another one than [Valid]. An error means that nothing was
// decided, whatever the reason; never take it for "no such key". See [Error] for how to tell errors apart.
//
// One client serves a whole process. It may be used by any number of goroutines, keeps answers in a near-cache, and
// must be closed.
package tenantauth
