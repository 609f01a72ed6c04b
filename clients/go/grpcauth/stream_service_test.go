package grpcauth_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func TestRealServiceEndsStreamsOfARevokedKeyOnAllReplicasOfTheProgram(t *testing.T) {
	real := service.Start(t)
	connect := func() *tenantauth.Client {
		client, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		for end := time.Now().Add(20 * time.Second); !client.WatchState().Live; time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the watch stream is not live")
			}
		}
		return client
	}
	admin := tenantauthv1.NewAdminServiceClient(connect().Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{TenantId: "ten_demo", Name: "stream"})
	if err != nil {
		t.Fatal(err)
	}
	var streams []clientStream
	for range 2 {
		auth := interceptor(t, connect(), grpcauth.WithGuardedStreams())
		stream := open(t.Context(), t, []grpc.ServerOption{grpc.StreamInterceptor(auth.Stream)}, issued.GetPlaintext(), func(stream serverStream) error {
			if err := stream.Send(message("first")); err != nil {
				return err
			}
			_, err := stream.Recv()
			return err
		})
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: issued.GetKey().GetKeyId(), Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	revokedAt := time.Now()
	for number, stream := range streams {
		expectRevoked(t, stream)
		t.Logf("replica %d: the stream ended %v after the revocation", number, time.Since(revokedAt))
	}
}
