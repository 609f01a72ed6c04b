// Package service runs the real tenant-auth service for tests.
package service

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Binary is the environment variable with the path of the service binary.
const Binary = "TENANT_AUTH_SVC_BIN"

// Service is a running tenant-auth with an embedded database.
type Service struct {
	// Address is the address that it listens on, also after a restart.
	Address string
	// Key is the plaintext key of its tenant ten_demo, with the scopes demo:read and demo:write; empty for [Serve].
	Key string

	t        testing.TB
	folder   string
	serveEnv []string
	process  *exec.Cmd
}

// Start runs a service with a demo tenant until the test ends. Without a binary, it skips the test.
func Start(t testing.TB) *Service { return StartAt(t, "127.0.0.1:0") }

// StartAt is Start with a listen address.
func StartAt(t testing.TB, listen string) *Service {
	t.Helper()
	s := prepare(t, listen)
	s.start()
	key, err := os.ReadFile(filepath.Join(s.folder, "demo-key"))
	if err != nil {
		t.Fatal(err)
	}
	s.Key = strings.TrimSpace(string(key))
	return s
}

// Serve runs a service with the given variables, for example for TLS, and an empty database.
func Serve(t testing.TB, listen string, variables map[string]string) *Service {
	t.Helper()
	s := prepare(t, listen)
	s.serveEnv = []string{
		"TENANT_AUTH_OPS_LISTEN=127.0.0.1:0", "TENANT_AUTH_CREATE_SCHEMA=true", "TENANT_AUTH_DRAIN_DELAY=0s", "TENANT_AUTH_LOG_FORMAT=json",
		"TENANT_AUTH_DATABASE_URL=file:" + filepath.Join(s.folder, "serve.db"),
	}
	for name, value := range variables {
		s.serveEnv = append(s.serveEnv, name+"="+value)
	}
	s.start()
	return s
}

func prepare(t testing.TB, listen string) *Service {
	if os.Getenv(Binary) == "" {
		t.Skipf("SKIPPED: %s is not set to the path of tenant-auth-svc", Binary)
	}
	s := &Service{t: t, folder: t.TempDir(), Address: listen}
	t.Cleanup(s.Stop)
	return s
}

func (s *Service) start() {
	s.t.Helper()
	s.process = exec.Command(os.Getenv(Binary), "dev", "--data-dir", s.folder, "--listen", s.Address)
	if s.serveEnv != nil {
		s.process = exec.Command(os.Getenv(Binary), "serve")
		// The service rejects unknown variables.
		others := slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "TENANT_AUTH_") })
		s.process.Env = append(append(others, s.serveEnv...), "TENANT_AUTH_LISTEN="+s.Address)
	}
	output, writer, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.process.Stdout, s.process.Stderr = writer, writer
	err = s.process.Start()
	_ = writer.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	address, said := ready(output)
	if address == "" {
		s.t.Fatalf("the service exited before it was ready:\n%s", said)
	}
	s.Address = address
}

// ready waits until the service serves, and returns its address. It continues to read the output, so that the service
// never blocks on it.
func ready(output io.ReadCloser) (address, text string) {
	lines := bufio.NewScanner(output)
	reached := false
	for lines.Scan() {
		text += lines.Text() + "\n"
		var entry struct{ Message, Address string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err == nil {
			if entry.Message == "serving" {
				address = entry.Address
			}
			reached = reached || strings.HasPrefix(entry.Message, "ready")
			if reached && address != "" {
				go drain(output)
				return address, text
			}
		} else if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "endpoint" {
			go drain(output)
			return fields[1], text
		}
	}
	_ = output.Close()
	return "", text
}

func drain(output io.ReadCloser) {
	_, _ = io.Copy(io.Discard, output)
	_ = output.Close()
}

// Restart starts the service again on the same address, after Stop or Kill.
func (s *Service) Restart() {
	s.t.Helper()
	s.start()
}

// Suspend makes the service hang: connections stay open, and no request gets a response.
func (s *Service) Suspend() { s.signal(syscall.SIGSTOP) }

// Resume ends a Suspend.
func (s *Service) Resume() { s.signal(syscall.SIGCONT) }

// Reload makes the service reload its files.
func (s *Service) Reload() { s.signal(syscall.SIGHUP) }

// Kill ends the service immediately.
func (s *Service) Kill() { s.stop(syscall.SIGKILL) }

// Stop ends the service gracefully.
func (s *Service) Stop() { s.stop(syscall.SIGTERM) }

func (s *Service) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Service) stop(signal syscall.Signal) {
	if s.process == nil || s.process.Process == nil {
		return
	}
	_ = s.process.Process.Signal(signal)
	// A suspended process handles signals only after SIGCONT.
	_ = s.process.Process.Signal(syscall.SIGCONT)
	_ = s.process.Wait()
	s.process = nil
}
