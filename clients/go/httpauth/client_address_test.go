package httpauth_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
)

// echo responds with the address that the handler gets.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(fake.AddressOf(r.Context()))) })

func TestMiddlewareFillsInTheAddress(t *testing.T) {
	proxies := httpauth.WithTrustedProxies("10.0.0.0/8", "2001:db8:1::1")
	for name, test := range map[string]struct {
		options []httpauth.Option
		peer    string
		header  http.Header
		want    string
	}{
		"connection":             {nil, "192.0.2.7:54321", nil, "192.0.2.7"},
		"IPv6 connection":        {nil, "[2001:db8::7]:54321", nil, "2001:db8::7"},
		"forged header":          {nil, "192.0.2.7:54321", http.Header{"X-Forwarded-For": {"198.51.100.1"}}, "192.0.2.7"},
		"forged, with proxies":   {[]httpauth.Option{proxies}, "192.0.2.7:54321", http.Header{"X-Forwarded-For": {"10.0.0.1"}}, "192.0.2.7"},
		"through a proxy":        {[]httpauth.Option{proxies}, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.1, 198.51.100.1"}}, "198.51.100.1"},
		"through two proxies":    {[]httpauth.Option{proxies}, "[2001:db8:1::1]:1", http.Header{"X-Forwarded-For": {"203.0.113.1", "198.51.100.1", "10.0.0.2"}}, "198.51.100.1"},
		"proxy without a header": {[]httpauth.Option{proxies}, "10.0.0.1:1", nil, "none"},
		"proxy, malformed":       {[]httpauth.Option{proxies}, "10.0.0.1:1", http.Header{"X-Forwarded-For": {"unknown"}}, "none"},
		"other header": {[]httpauth.Option{proxies, httpauth.WithClientAddressHeader("CF-Connecting-IP")}, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"203.0.113.1"}, "Cf-Connecting-Ip": {"198.51.100.1"}}, "198.51.100.1"},
		"several options": {[]httpauth.Option{httpauth.WithTrustedProxies("172.16.0.1"), proxies}, "172.16.0.1:1",
			http.Header{"X-Forwarded-For": {"198.51.100.1, 10.0.0.1"}}, "198.51.100.1"},
		"no address": {nil, "", http.Header{"X-Forwarded-For": {"198.51.100.1"}}, "none"},
	} {
		service := &fake.AddressRecorder{}
		request := httptest.NewRequest(http.MethodGet, "/orders", nil)
		request.RemoteAddr = test.peer
		if test.header != nil {
			request.Header = test.header
		}
		request.Header.Set("Authorization", "Bearer ta_key")
		recorder := httptest.NewRecorder()
		middleware(t, service, test.options...).Require()(echo).ServeHTTP(recorder, request)
		if service.Address != test.want || recorder.Body.String() != test.want {
			t.Errorf("%s: validated with %s, handled with %s", name, service.Address, recorder.Body)
		}
	}
}

func TestNetworksOfAKeyAreEnforced(t *testing.T) {
	auth := fake.Start(t)
	auth.Put("ta_key", fake.Restricted("key_1", "192.0.2.0/24"))
	client, err := tenantauth.New(auth.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var reported []string
	guard := middleware(t, client, httpauth.WithTrustedProxies("10.0.0.1"), httpauth.WithOnDenied(func(r *http.Request, validation tenantauth.Validation, _ error) {
		reported = append(reported, validation.Verdict.String()+" "+fake.AddressOf(r.Context()))
	}))
	for _, test := range []struct {
		peer   string
		status int
		code   string
	}{
		{"192.0.2.7:1", 200, ""}, {"203.0.113.1:1", 403, "ADDRESS_NOT_ALLOWED"}, {"10.0.0.1:1", 403, "ADDRESS_REQUIRED"},
	} {
		request := httptest.NewRequest(http.MethodGet, "/orders", nil)
		request.RemoteAddr = test.peer
		request.Header = bearer.Clone()
		response := answer(guard, request)
		var body problem
		if test.status != http.StatusOK {
			body = rejection(t, test.peer, response)
		}
		if response.Code != test.status || body.Code != test.code {
			t.Errorf("%s: %d %s", test.peer, response.Code, response.Body)
		}
	}
	if len(reported) != 2 || reported[0] != "ADDRESS_NOT_ALLOWED 203.0.113.1" || reported[1] != "ADDRESS_REQUIRED none" {
		t.Errorf("%q were reported", reported)
	}
}

func TestUnixSocketGivesNoAddress(t *testing.T) {
	// The name of the client's socket looks like an address.
	t.Chdir(t.TempDir())
	const forged = "192.0.2.7"
	path := filepath.Join(t.TempDir(), "server")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	service := &fake.AddressRecorder{}
	server := &http.Server{Handler: middleware(t, service, httpauth.WithTrustedProxies("192.0.2.7")).Require()(echo)}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	conn, err := net.DialUnix("unix", &net.UnixAddr{Name: forged, Net: "unix"}, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{"Authorization": {"Bearer ta_key"}, "X-Forwarded-For": {"198.51.100.1"}}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || service.Address != "none" {
		t.Errorf("%d, address %s", response.StatusCode, service.Address)
	}
}
