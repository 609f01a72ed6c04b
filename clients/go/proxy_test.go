package tenantauth_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// The environment's proxies are read once in a process, and never for loopback: so another process asks, elsewhere.
const askingProcess = "TENANT_AUTH_TEST_ASKS"

func TestAProxyOfTheEnvironmentIsToldNothing(t *testing.T) {
	if os.Getenv(askingProcess) != "" {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		client, err := tenantauth.New("192.0.2.1:50051")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		if _, err := client.ValidateKey(ctx, key); err == nil {
			t.Fatal("nobody is there")
		}
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 100)
	go func() {
		defer close(told)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(connection).ReadString('\n')
			told <- line
			_ = connection.Close()
		}
	}()
	asking := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	asking.Env = append(os.Environ(), askingProcess+"=1", "no_proxy=", "NO_PROXY=")
	for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"} {
		asking.Env = append(asking.Env, name+"=http://"+listener.Addr().String())
	}
	if output, err := asking.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	_ = listener.Close()
	for line := range told {
		t.Errorf("the proxy was told %q", line)
	}
}
