package tenantauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxTokenLen is the maximum length of a caller token, in characters.
	maxTokenLen = 4_096
	// maxTokenFileSize is the maximum size of a token file, in bytes. It allows for whitespace around the token.
	maxTokenFileSize = 64 << 10
)

// callerToken adds the caller token to each call. If the token cannot be read, the last valid one is used.
type callerToken struct {
	read   func(context.Context) (string, error)
	logger *slog.Logger

	mu   sync.Mutex
	last string
	// warned is the error that was logged last; empty if the last read succeeded.
	warned string
}

// GetRequestMetadata returns the header with the token.
func (t *callerToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := t.token(ctx)
	if ctx.Err() != nil {
		// The call has ended, which says nothing about the token.
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		// The error does not carry the status of err: if the token comes from a gRPC service, the call must not fail
		// with that service's status code.
		return nil, status.Errorf(codes.Unauthenticated, "caller token: %v", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity returns false because many networks encrypt on a lower layer, such as a service mesh or a
// tunnel.
func (*callerToken) RequireTransportSecurity() bool { return false }

func (t *callerToken) token(ctx context.Context) (string, error) {
	token, err := t.read(ctx)
	if err == nil {
		token, err = parseToken(token)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.last, t.warned = token, ""
		return token, nil
	}
	if t.last == "" {
		return "", err
	}
	if ctx.Err() == nil && t.warned != err.Error() {
		t.warned = err.Error()
		t.logger.Warn("tenant-auth: caller token not renewed; the last valid one stays in use", "error", err)
	}
	return t.last, nil
}

// parseToken trims a token and rejects invalid ones. Its errors do not contain the token.
func parseToken(text string) (string, error) {
	token := strings.Trim(text, "\ufeff \t\r\n\v\f")
	if token == "" {
		return "", errors.New("empty")
	}
	if len(token) > maxTokenLen {
		return "", fmt.Errorf("%d characters long; at most %d are allowed", len(token), maxTokenLen)
	}
	for index, char := range []byte(token) {
		if char <= ' ' || char > '~' {
			return "", fmt.Errorf("invalid byte 0x%02x at position %d; only visible ASCII characters are allowed", char, index+1)
		}
	}
	return token, nil
}

func readTokenFile(path string) (string, error) {
	// The size is limited because the file may be a device or a disk image.
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFileSize+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxTokenFileSize {
		// The beginning of a larger file may look like a valid token but be only a part of one.
		return "", fmt.Errorf("%s: larger than %d bytes", path, maxTokenFileSize)
	}
	token, err := parseToken(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}
