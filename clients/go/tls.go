package tenantauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc/credentials"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/endpoints"
)

// TLSFiles are the paths of PEM files. The client reads them again for each new connection, so they can be rotated. If
// they cannot be read, the content from the start of the client stays in use.
type TLSFiles struct {
	// CA is a file of trusted authorities. If empty, the system roots are trusted.
	CA string
	// Cert is a file with the client certificate and its chain. If empty, the client sends no certificate.
	Cert string
	// Key is a file with the private key of Cert.
	Key string
	// ServerName is the name that the server's certificate must be valid for. If empty, the host of the endpoint.
	ServerName string
}

// TLSPEM is like [TLSFiles], with the content of the files.
type TLSPEM struct {
	// CA holds the trusted authorities. If empty, the system roots are trusted.
	CA []byte
	// Cert is the client certificate and its chain. If empty, the client sends no certificate.
	Cert []byte
	// Key is the private key of Cert.
	Key []byte
	// ServerName is the name that the server's certificate must be valid for. If empty, the host of the endpoint.
	ServerName string
}

// Format never prints the private key, for any verb.
func (TLSPEM) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON never writes the private key.
func (TLSPEM) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

func (f TLSFiles) config() (*tls.Config, error) {
	made := TLSPEM{ServerName: f.ServerName}
	for _, file := range []struct {
		name, path string
		into       *[]byte
	}{{"CA", f.CA, &made.CA}, {"Cert", f.Cert, &made.Cert}, {"Key", f.Key, &made.Key}} {
		if file.path == "" {
			continue
		}
		if strings.Contains(file.path, "-----BEGIN") {
			return nil, fmt.Errorf("%s: is PEM text, not the path of a file; use WithTLSPEM", file.name)
		}
		text, err := os.ReadFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.name, err)
		}
		if len(text) == 0 {
			return nil, fmt.Errorf("%s: %s is empty", file.name, file.path)
		}
		*file.into = text
	}
	config, err := made.config()
	if err != nil {
		return nil, fmt.Errorf("%w (files %q, %q, %q)", err, f.CA, f.Cert, f.Key)
	}
	return config, nil
}

func (p TLSPEM) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: p.ServerName}
	if p.ServerName != "" && !endpoints.ValidHost(p.ServerName) {
		return nil, fmt.Errorf("ServerName: %q is neither a host name nor an IP address", p.ServerName)
	}
	if len(p.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(p.CA) {
			return nil, errors.New("CA: contains no PEM certificate; to give the path of a file, use WithTLSFiles")
		}
	}
	switch {
	case len(p.Cert) == 0 && len(p.Key) == 0:
		return config, nil
	case len(p.Cert) == 0:
		return nil, fmt.Errorf("%s: is missing, but Key is set", "Cert")
	case len(p.Key) == 0:
		return nil, fmt.Errorf("%s: is missing, but Cert is set", "Key")
	}
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", "Cert", "Key", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// reloadingTLS reads the TLS files again for each connection.
type reloadingTLS struct {
	credentials.TransportCredentials
	files  TLSFiles
	logger *slog.Logger
}

// ClientHandshake performs the handshake with the current content of the files.
func (r reloadingTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.files.config()
	if err != nil {
		r.logger.Warn("tenant-auth: TLS files not reloaded; the content from the start stays in use", "error", err)
		return r.TransportCredentials.ClientHandshake(ctx, authority, raw)
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
}

// Clone returns a copy.
func (r reloadingTLS) Clone() credentials.TransportCredentials {
	return reloadingTLS{r.TransportCredentials.Clone(), r.files, r.logger}
}
