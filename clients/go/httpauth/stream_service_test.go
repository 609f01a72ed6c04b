package httpauth_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// eventServer is a replica of a program that protects its event streams with the real service.
func eventServer(t *testing.T, address string, options ...httpauth.Option) *httptest.Server {
	t.Helper()
	client, err := tenantauth.New(address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	for end := time.Now().Add(20 * time.Second); !client.WatchState().Live; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the watch stream is not live")
		}
	}
	server := httptest.NewServer(middleware(t, client, options...).RequireStream("demo:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = sendEvent(w, "1")
		<-r.Context().Done()
	})))
	t.Cleanup(server.Close)
	return server
}

func openStream(t *testing.T, server *httptest.Server, key string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestStreamsOfARevokedKeyEndOnAllReplicasOfTheProgram(t *testing.T) {
	real := service.Start(t)
	replicas := []*httptest.Server{eventServer(t, real.Address), eventServer(t, real.Address)}
	operator, err := tenantauth.New(real.Address, tenantauth.WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = operator.Close() }()
	admin := tenantauthv1.NewAdminServiceClient(operator.Raw())
	issued, err := admin.IssueKey(t.Context(), &tenantauthv1.IssueKeyRequest{TenantId: "ten_demo", Name: "stream", Scopes: []string{"demo:read"}})
	if err != nil {
		t.Fatal(err)
	}
	type end struct {
		replica int
		text    string
		err     error
		at      time.Time
	}
	ends := make(chan end, len(replicas))
	others := make([]*http.Response, len(replicas))
	for number, replica := range replicas {
		others[number] = openStream(t, replica, real.Key)
		response := openStream(t, replica, issued.GetPlaintext())
		go func() {
			text, err := io.ReadAll(response.Body)
			ends <- end{number, string(text), err, time.Now()}
		}()
	}
	if _, err := admin.RevokeKey(t.Context(), &tenantauthv1.RevokeKeyRequest{KeyId: issued.GetKey().GetKeyId(), Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	revokedAt := time.Now()
	for range replicas {
		ended := <-ends
		if ended.err != nil || ended.text != "data: 1\n\n"+revokedEvent {
			t.Errorf("replica %d: %q, %v", ended.replica, ended.text, ended.err)
		}
		t.Logf("replica %d: the stream ended %v after the revocation", ended.replica, ended.at.Sub(revokedAt))
	}
	// The streams of another key of the same tenant go on, until the tenant is suspended.
	if _, err := admin.SuspendTenant(t.Context(), &tenantauthv1.SuspendTenantRequest{TenantId: "ten_demo", Reason: "a test"}); err != nil {
		t.Fatal(err)
	}
	suspendedAt := time.Now()
	for number, other := range others {
		if text := rest(t, other.Body); !strings.HasPrefix(text, "data: 1\n\nevent: end\ndata: {\"code\":\"TENANT_SUSPENDED\"") {
			t.Errorf("replica %d: %q", number, text)
		}
		t.Logf("replica %d: the stream ended %v after the suspension", number, time.Since(suspendedAt))
	}
}

func TestStreamsOfAKeyEndWhileTheServiceIsDown(t *testing.T) {
	real := service.Start(t)
	response := openStream(t, eventServer(t, real.Address, httpauth.WithGuard(tenantauth.WithGuardTolerance(time.Second))), real.Key)
	real.Kill()
	stoppedAt := time.Now()
	if text := rest(t, response.Body); !strings.HasSuffix(text, "event: end\ndata: {\"code\":\"UNDECIDED\",\"detail\":\"The API key could not be checked now.\"}\n\n") {
		t.Errorf("%q", text)
	}
	t.Logf("the stream ended %v after the service", time.Since(stoppedAt))
}
