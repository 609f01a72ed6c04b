package grpcauth_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

type (
	serverStream = grpc.BidiStreamingServer[tenantauthv1.StreamValidateKeysRequest, tenantauthv1.StreamValidateKeysResponse]
	clientStream = grpc.BidiStreamingClient[tenantauthv1.StreamValidateKeysRequest, tenantauthv1.StreamValidateKeysResponse]
)

// talking is any service with a stream in both directions.
type talking struct {
	tenantauthv1.UnimplementedValidationServiceServer
	handler func(serverStream) error
}

func (t *talking) StreamValidateKeys(stream serverStream) error { return t.handler(stream) }

// open opens a guarded stream that the handler serves.
func open(ctx context.Context, t *testing.T, options []grpc.ServerOption, key string, handler func(serverStream) error) clientStream {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	tenantauthv1.RegisterValidationServiceServer(server, &talking{handler: handler})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	stream, err := tenantauthv1.NewValidationServiceClient(conn).StreamValidateKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// watched is a client whose fake service can report a revocation.
type watched struct {
	ctx    context.Context
	fake   *fake.Server
	watch  *fake.Stream
	client *tenantauth.Client
}

func startWatched(t *testing.T) *watched {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	w := &watched{ctx: ctx, fake: fake.Start(t)}
	w.fake.ServeWatch()
	w.fake.Put("ta_key", fake.Valid("key_1"))
	client, err := tenantauth.New(w.fake.Address(), tenantauth.WithTimeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	w.client = client
	w.watch = <-w.fake.Streams()
	w.watch.Heartbeat(10)
	for !client.WatchState().Live {
		time.Sleep(time.Millisecond)
	}
	return w
}

func (w *watched) open(t *testing.T, handler func(serverStream) error) clientStream {
	t.Helper()
	auth := interceptor(t, w.client, grpcauth.WithGuardedStreams())
	return open(w.ctx, t, []grpc.ServerOption{grpc.StreamInterceptor(auth.Stream)}, "ta_key", handler)
}

func (w *watched) revoke() {
	w.fake.Put("ta_key", fake.At(12, fake.Denied(tenantauthv1.Verdict_VERDICT_REVOKED, "key_1")))
	w.watch.Invalidate(12, tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY, "key_1")
}

func reason(err error) (reason string, retry time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			retry = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, retry
}

// expectRevoked reads a stream up to its end.
func expectRevoked(t *testing.T, stream clientStream) {
	t.Helper()
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if code, _ := reason(err); status.Code(err) != codes.Unauthenticated || code != "REVOKED" {
		t.Errorf("%v", err)
	}
}

// received waits for a value.
func received[T any](ctx context.Context, t *testing.T, values <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-values:
	case <-ctx.Done():
		t.Fatal("nothing was received")
	}
	return value
}

func message(text string) *tenantauthv1.StreamValidateKeysResponse {
	return &tenantauthv1.StreamValidateKeysResponse{Result: &tenantauthv1.StreamValidateKeysResponse_Response{
		Response: &tenantauthv1.ValidateKeyResponse{TenantName: text},
	}}
}

func TestStreamOfARevokedKeyEndsEvenIfItsHandlerIsBlocked(t *testing.T) {
	for name, block := range map[string]func(serverStream) error{
		"waiting for its context": func(stream serverStream) error {
			<-stream.Context().Done()
			return stream.Context().Err()
		},
		"receiving": func(stream serverStream) error {
			_, err := stream.Recv()
			return err
		},
		"sending": func(stream serverStream) error {
			for {
				if err := stream.Send(message(strings.Repeat("x", 1<<16))); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWatched(t)
			returned := make(chan error, 1)
			stream := w.open(t, func(stream serverStream) error {
				err := stream.Send(message("first"))
				if err == nil {
					err = block(stream)
				}
				var ended *tenantauth.Ended
				if !errors.As(context.Cause(stream.Context()), &ended) || ended.Verdict != tenantauth.Revoked {
					err = context.Cause(stream.Context())
				}
				returned <- err
				return err
			})
			// The first message is not delayed.
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
			w.revoke()
			if err := received(w.ctx, t, returned); err == nil {
				t.Error("the handler did not see the end")
			}
			expectRevoked(t, stream)
		})
	}
}

func TestHandlerOfAnEndedStreamCanNeitherSendNorReceive(t *testing.T) {
	w := startWatched(t)
	failures := make(chan error, 2)
	stream := w.open(t, func(stream serverStream) error {
		if err := stream.Send(message("first")); err != nil {
			return err
		}
		<-stream.Context().Done()
		_, err := stream.Recv()
		failures <- err
		failures <- stream.Send(message("too late"))
		return nil
	})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	w.revoke()
	for range 2 {
		if err := received(w.ctx, t, failures); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%v", err)
		}
	}
	expectRevoked(t, stream)
}

func TestUndecidedStreamEndsAsUnavailable(t *testing.T) {
	w := startWatched(t)
	stream := w.open(t, func(stream serverStream) error {
		if err := stream.Send(message("first")); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_ = w.client.Close()
	_, err := stream.Recv()
	if code, retry := reason(err); status.Code(err) != codes.Unavailable || code != "UNDECIDED" || retry != time.Second {
		t.Errorf("%v", err)
	}
}

func TestGuardedStreamEndsAsItsHandlerDecides(t *testing.T) {
	w := startWatched(t)
	guarded := make(chan context.Context, 1)
	stream := w.open(t, func(stream serverStream) error {
		guarded <- stream.Context()
		return status.Error(codes.DataLoss, "a defect")
	})
	if _, err := stream.Recv(); status.Code(err) != codes.DataLoss {
		t.Errorf("%v", err)
	}
	ctx := received(w.ctx, t, guarded)
	received(w.ctx, t, ctx.Done())
	if ended, ok := tenantauth.EndOf(ctx); ok {
		t.Errorf("%v", ended)
	}
}

func TestPanicOfAHandlerReachesTheOuterInterceptor(t *testing.T) {
	w := startWatched(t)
	recovering := func(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if recover() == "a defect" {
				err = status.Error(codes.DataLoss, "recovered")
			}
		}()
		return handler(service, stream)
	}
	auth := interceptor(t, w.client, grpcauth.WithGuardedStreams())
	stream := open(w.ctx, t, []grpc.ServerOption{grpc.ChainStreamInterceptor(recovering, auth.Stream)}, "ta_key", func(serverStream) error { panic("a defect") })
	if _, err := stream.Recv(); status.Code(err) != codes.DataLoss {
		t.Errorf("%v", err)
	}
}

func TestGuardedStreamsNeedAValidatorThatGuards(t *testing.T) {
	if _, err := grpcauth.New(&stub{}, grpcauth.WithGuardedStreams()); err == nil {
		t.Error("want an error")
	}
	if _, err := grpcauth.New(startWatched(t).client, grpcauth.WithGuardedStreams(tenantauth.WithGuardTolerance(-1))); err == nil {
		t.Error("invalid option: want an error")
	}
}
