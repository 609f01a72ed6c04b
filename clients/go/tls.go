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

// TLSFiles are PEM files, which are read again for each new connection, so that they can be rotated. While they cannot be
// read, what was read at the start stays in use.
type TLSFiles struct {
	// CA is a file of trusted authorities; empty: those of the machine.
	CA string
	// Cert is a file with the client certificate and its chain; empty: none is shown.
	Cert string
	// Key is a file with the private key of Cert.
	Key string
	// ServerName is the name that the server's certificate must be for; empty: the host of its endpoint.
	ServerName string
}

// TLSPEM is [TLSFiles] with the text of the files.
type TLSPEM struct {
	// CA holds the trusted authorities; empty: those of the machine.
	CA []byte
	// Cert is the client certificate and its chain; empty: none is shown.
	Cert []byte
	// Key is the private key of Cert.
	Key []byte
	// ServerName is the name that the server's certificate must be for; empty: the host of its endpoint.
	ServerName string
}

// Format does not show the private key, whatever the verb.
func (TLSPEM) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON does not show the private key.
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
			return nil, fmt.Errorf("%s: is PEM, not the path of a file; use WithTLSPEM", file.name)
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
		return nil, fmt.Errorf("ServerName: %q is neither a name nor an address", p.ServerName)
	}
	if len(p.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(p.CA) {
			return nil, errors.New("CA: holds no PEM certificate; for the path of a file use WithTLSFiles")
		}
	}
	switch {
	case len(p.Cert) == 0 && len(p.Key) == 0:
		return config, nil
	case len(p.Cert) == 0:
		return nil, fmt.Errorf("%s: is missing, and Key is given", "Cert")
	case len(p.Key) == 0:
		return nil, fmt.Errorf("%s: is missing, and Cert is given", "Key")
	}
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", "Cert", "Key", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// rereadTLS reads the files anew for each connection.
type rereadTLS struct {
	credentials.TransportCredentials
	files  TLSFiles
	logger *slog.Logger
}

// ClientHandshake shakes hands by what the files hold now.
func (r rereadTLS) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.files.config()
	if err != nil {
		r.logger.Warn("tenant-auth: the TLS files cannot be used; what was read at the start stays in use", "error", err)
		return r.TransportCredentials.ClientHandshake(ctx, authority, raw)
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, raw)
}

// Clone is a copy.
func (r rereadTLS) Clone() credentials.TransportCredentials {
	return rereadTLS{r.TransportCredentials.Clone(), r.files, r.logger}
}
