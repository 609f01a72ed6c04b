package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
)

// api runs the example. It returns functions that call and stop it.
func api(t *testing.T, endpoints string, proxies ...string) (call func(method, key, body string) (int, string), stop func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, endpoints, listener, proxies...) }()
	call = func(method, key, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+listener.Addr().String()+"/orders", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, strings.TrimSpace(string(text))
	}
	return call, func() error {
		cancel()
		return <-ended
	}
}

func expect(t *testing.T, what string, status int, text string, wantStatus int, wantText string) {
	t.Helper()
	if status != wantStatus || !strings.Contains(text, wantText) {
		t.Errorf("%s: %d %s", what, status, text)
	}
}

func TestRequestsAreServedAndCounted(t *testing.T) {
	auth := fake.Start(t)
	auth.Put("good", fake.Valid("key_1", "demo:read", "demo:write"))
	auth.Put("reader", fake.Valid("key_2", "demo:read"))
	other := fake.Valid("key_3", "demo:read")
	other.TenantId, other.TenantName = "ten_2", "Other"
	auth.Put("other", other)
	call, stop := api(t, auth.Address())
	for _, step := range []struct {
		what, method, key, body string
		status                  int
		text                    string
	}{
		{"no key", "GET", "", "", 401, "NO_CREDENTIALS"},
		{"unknown key", "GET", "unknown", "", 401, "not valid"},
		{"missing scope", "POST", "reader", `{"item":"tea"}`, 403, `"missing_scopes":["demo:write"]`},
		{"valid order", "POST", "good", `{"item":"tea"}`, 201, `{"item":"tea"}`},
		{"invalid order", "POST", "good", `{}`, 400, "needs an item"},
		{"same tenant, other key", "GET", "reader", "", 200, `{"orders":[{"item":"tea"}],"tenant":"Acme"}`},
		{"other tenant", "GET", "other", "", 200, `{"orders":[],"tenant":"Other"}`},
	} {
		status, text := call(step.method, step.key, step.body)
		expect(t, step.what, status, text, step.status, step.text)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	counted := map[string]int{}
	ids, batches := auth.Recorded()
	for _, id := range ids {
		for _, event := range batches[id] {
			counted[event.GetTenantId()+" "+event.GetMetric()]++
		}
	}
	if len(counted) != 3 || counted["ten_1 api.orders.place"] != 1 || counted["ten_1 api.orders.list"] != 1 || counted["ten_2 api.orders.list"] != 1 {
		t.Errorf("%v", counted)
	}
}

func TestAddressOfAProxyIsNotACustomers(t *testing.T) {
	auth := fake.Start(t)
	local := fake.Restricted("key_1", "127.0.0.0/8")
	local.Scopes = []string{"demo:read"}
	auth.Put("local", local)
	call, stop := api(t, auth.Address())
	status, text := call("GET", "local", "")
	expect(t, "without a proxy", status, text, 200, "Acme")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	call, stop = api(t, auth.Address(), "127.0.0.1")
	status, text = call("GET", "local", "")
	expect(t, "behind a proxy that names no customer", status, text, 403, "ADDRESS_REQUIRED")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestOutageIsReportedAs503(t *testing.T) {
	auth := fake.Start(t)
	auth.Stop()
	call, stop := api(t, auth.Address())
	status, text := call("GET", "good", "")
	expect(t, "during an outage", status, text, 503, "UNDECIDED")
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRealServiceAdmitsItsKey(t *testing.T) {
	real := service.Start(t)
	call, _ := api(t, real.Address)
	status, text := call("GET", "unknown-key", "")
	expect(t, "unknown key", status, text, 401, "not valid")
	status, text = call("POST", real.Key, `{"item":"tea"}`)
	expect(t, "valid order", status, text, 201, "tea")
	status, text = call("GET", real.Key, "")
	expect(t, "list of orders", status, text, 200, `{"orders":[{"item":"tea"}],"tenant":"Demo"}`)
}
