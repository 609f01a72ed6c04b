package tenantauth_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
)

// validatingProcess makes this test binary validate a key at the given endpoint. A separate process is needed because
// the proxy variables are read once per process.
const validatingProcess = "TENANT_AUTH_TEST_ASKS"

// proxy is an HTTP proxy that forwards everything to one address and records the requested targets.
type proxy struct {
	server *http.Server
	url    string

	mu    sync.Mutex
	asked []string
}

func startProxy(t *testing.T, leadsTo string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "http://user:password@" + listener.Addr().String()}
	p.server = &http.Server{ReadHeaderTimeout: testTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
		p.mu.Unlock()
		there, err := net.Dial("tcp", leadsTo)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(there, here) }()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	})}
	go func() { _ = p.server.Serve(listener) }()
	t.Cleanup(func() { _ = p.server.Close() })
	return p
}

func TestEnvironmentProxyIsUsedOnlyIfEnabled(t *testing.T) {
	if endpoint := os.Getenv(validatingProcess); endpoint != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		options := []tenantauth.Option{tenantauth.WithoutNearCache()}
		if rest, wanted := strings.CutPrefix(endpoint, "proxy "); wanted {
			endpoint, options = rest, append(options, tenantauth.WithEnvironmentProxy())
		}
		client, err := tenantauth.New(endpoint, append(options, tenantauth.WithTimeout(time.Second))...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		if _, err := client.ServerInfo(ctx); err != nil {
			t.Fatal(err)
		}
		return
	}
	real := service.Start(t)
	_, port, _ := net.SplitHostPort(real.Address)
	for name, test := range map[string]struct {
		asks    string
		noProxy string
		proxied string
	}{
		"not enabled":                 {"192.0.2.1:" + port, "", ""},
		"enabled":                     {"proxy 192.0.2.1:" + port, "", "CONNECT 192.0.2.1:" + port},
		"name resolved by the proxy":  {"proxy tenant-auth.example:" + port, "", "CONNECT tenant-auth.example:" + port},
		"loopback":                    {"proxy " + real.Address, "", ""},
		"localhost":                   {"proxy localhost:" + port, "", ""},
		"cluster-local name":          {"proxy tenant-auth.default.svc:" + port, "", ""},
		"name without a dot":          {"proxy tenant-auth:" + port, "", ""},
		"listed in NO_PROXY":          {"proxy tenant-auth.example:" + port, "example.org,.example", ""},
		"not listed in NO_PROXY":      {"proxy tenant-auth.example:" + port, "example.org", "CONNECT tenant-auth.example:" + port},
		"loopback, not enabled":       {real.Address, "", ""},
		"several, one of them remote": {"proxy 192.0.2.1:" + port + "," + real.Address, "", "CONNECT 192.0.2.1:" + port},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := startProxy(t, real.Address)
			asking := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEnvironmentProxyIsUsedOnlyIfEnabled$")
			asking.Env = append(os.Environ(), validatingProcess+"="+test.asks, "no_proxy="+test.noProxy, "NO_PROXY="+test.noProxy)
			for _, variable := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy", "ALL_PROXY"} {
				asking.Env = append(asking.Env, variable+"="+proxy.url)
			}
			output, err := asking.CombinedOutput()
			if reachable := test.proxied != "" || strings.Contains(test.asks, real.Address) || strings.Contains(test.asks, "localhost"); reachable != (err == nil) {
				t.Errorf("%v\n%s", err, output)
			}
			proxy.mu.Lock()
			defer proxy.mu.Unlock()
			for _, asked := range proxy.asked {
				if want := test.proxied + " Basic dXNlcjpwYXNzd29yZA=="; asked != want {
					t.Errorf("the proxy got a request for %q", asked)
				}
			}
			if (test.proxied != "") != (len(proxy.asked) > 0) {
				t.Errorf("the proxy got %d requests", len(proxy.asked))
			}
		})
	}
}
