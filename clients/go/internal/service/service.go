// Package service runs the real tenant-auth for tests.
package service

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Binary is the environment variable that names the service's program.
const Binary = "TENANT_AUTH_SVC_BIN"

// Service is a running tenant-auth with an embedded database and one tenant.
type Service struct {
	// Address is where it listens.
	Address string
	// Key is the plaintext key of its tenant ten_demo, with the scopes demo:read and demo:write.
	Key string
}

// Start runs it until the test ends. Without a program to run, the test is skipped.
func Start(t testing.TB) *Service {
	t.Helper()
	program := os.Getenv(Binary)
	if program == "" {
		t.Skipf("SKIPPED: %s names no tenant-auth-svc to test against", Binary)
	}
	folder := t.TempDir()
	command := exec.Command(program, "dev", "--data-dir", folder, "--listen", "127.0.0.1:0")
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	address := endpoint(output)
	if address == "" {
		t.Fatal("the service ended before it was ready")
	}
	key, err := os.ReadFile(filepath.Join(folder, "demo-key"))
	if err != nil {
		t.Fatal(err)
	}
	return &Service{Address: address, Key: strings.TrimSpace(string(key))}
}

// endpoint waits for the line that names it. The rest is read too, so that the service never waits for a reader.
func endpoint(output io.Reader) string {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "endpoint" {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return fields[1]
		}
	}
	return ""
}
