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
	// longestToken is the longest caller token, in characters.
	longestToken = 4_096
	// largestTokenFile leaves room for the blanks around it, in bytes.
	largestTokenFile = 64 << 10
)

// callerToken adds the token to each call. One that cannot be had gives way to the last one that was good.
type callerToken struct {
	read   func(context.Context) (string, error)
	logger *slog.Logger

	mu   sync.Mutex
	last string
	// warned is the trouble that was logged; empty when all is well.
	warned string
}

// GetRequestMetadata is the header with the token.
func (t *callerToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := t.token(ctx)
	if ctx.Err() != nil {
		// The call is over, which says nothing about the token.
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		// Without its own status: a token that comes by gRPC must not lend the call the code of another service.
		return nil, status.Errorf(codes.Unauthenticated, "caller token: %v", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is false because many networks encrypt below: a mesh, or a tunnel.
func (*callerToken) RequireTransportSecurity() bool { return false }

func (t *callerToken) token(ctx context.Context) (string, error) {
	token, err := t.read(ctx)
	if err == nil {
		token, err = cleanToken(token)
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
		t.logger.Warn("tenant-auth: the caller token cannot be renewed; the last good one stays in use", "error", err)
	}
	return t.last, nil
}

// cleanToken trims a token, and refuses what can be none. Its errors do not show it.
func cleanToken(text string) (string, error) {
	token := strings.Trim(text, "\ufeff \t\r\n\v\f")
	if token == "" {
		return "", errors.New("is empty")
	}
	if len(token) > longestToken {
		return "", fmt.Errorf("has %d characters; at most %d are allowed", len(token), longestToken)
	}
	for index, char := range []byte(token) {
		if char <= ' ' || char > '~' {
			return "", fmt.Errorf("has the byte 0x%02x at position %d; only visible ASCII characters are allowed", char, index+1)
		}
	}
	return token, nil
}

func readToken(path string) (string, error) {
	// A file that is a device or a disk image must not fill the memory.
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, largestTokenFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > largestTokenFile {
		// Its beginning may look like a token, and be a part of one.
		return "", fmt.Errorf("%s: is larger than %d bytes", path, largestTokenFile)
	}
	token, err := cleanToken(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}
