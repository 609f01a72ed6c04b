package tenantauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

// All replicas are used in turn: each keeps its own memory, and none should be idle when another one dies.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// A peer that vanished without a word is noticed before a caller runs into it.
var keepaliveParameters = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

// gRPC's own ceiling of two minutes would leave a client without a service that is long back.
var connectParameters = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: time.Second,
}

func dial(text string, o *options) (*grpc.ClientConn, error) {
	hosts, secure, err := endpoints.Parse(text)
	if err != nil {
		return nil, err
	}
	if !secure && o.tls != nil && strings.Contains(text, "http://") {
		return nil, fmt.Errorf("endpoint %q is plaintext, and TLS is configured", text)
	}
	transport := insecure.NewCredentials()
	if secure || o.tls != nil {
		transport = credentials.NewTLS(o.tls)
	}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithResolvers(endpoints.Builder{}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepaliveParameters),
		grpc.WithConnectParams(connectParameters),
		grpc.WithUserAgent(o.userAgent),
		// Proxies of the environment would be given customers' keys, and the caller's token.
		grpc.WithNoProxy(),
	}
	if o.token != nil {
		all = append(all, grpc.WithPerRPCCredentials(callerToken(o.token)))
	}
	return grpc.NewClient(endpoints.Target(hosts), append(all, o.dial...)...)
}

// TLSFromFiles is a configuration for [WithTLS] from PEM files. Without ca the machine's own roots are trusted; without
// certificate and key none is shown. The certificate is read anew for each connection, so that it can be rotated.
func TLSFromFiles(ca, certificate, key string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s holds no certificate", ca)
		}
	}
	if certificate == "" && key == "" {
		return config, nil
	}
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		return &pair, err
	}
	if _, err := read(); err != nil {
		return nil, fmt.Errorf("certificate and key: %w", err)
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() }
	return config, nil
}

// callerToken adds the token to each call.
type callerToken func(context.Context) (string, error)

func (t callerToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := t(ctx)
	if err != nil {
		return nil, fmt.Errorf("caller token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is false because many networks encrypt below: a mesh, or a tunnel.
func (callerToken) RequireTransportSecurity() bool { return false }

func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return token, nil
}
