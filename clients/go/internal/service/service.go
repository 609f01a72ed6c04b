// Package service runs the real tenant-auth for tests.
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

// Binary is the environment variable that names the service's program.
const Binary = "TENANT_AUTH_SVC_BIN"

// Service is a running tenant-auth with an embedded database.
type Service struct {
	// Address is where it listens, and does so again after a restart.
	Address string
	// Key is the plaintext key of its tenant ten_demo, with the scopes demo:read and demo:write; empty for [Serve].
	Key string

	t       testing.TB
	folder  string
	serve   []string
	process *exec.Cmd
}

// Start runs one with a demo tenant until the test ends. Without a program to run, the test is skipped.
func Start(t testing.TB) *Service { return StartAt(t, "127.0.0.1:0") }

// StartAt is Start at an address.
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

// Serve runs one with variables of its own, such as those for TLS, and nothing in its database.
func Serve(t testing.TB, listen string, variables map[string]string) *Service {
	t.Helper()
	s := prepare(t, listen)
	s.serve = []string{
		"TENANT_AUTH_OPS_LISTEN=127.0.0.1:0", "TENANT_AUTH_CREATE_SCHEMA=true", "TENANT_AUTH_DRAIN_DELAY=0s", "TENANT_AUTH_LOG_FORMAT=json",
		"TENANT_AUTH_DATABASE_URL=file:" + filepath.Join(s.folder, "serve.db"),
	}
	for name, value := range variables {
		s.serve = append(s.serve, name+"="+value)
	}
	s.start()
	return s
}

func prepare(t testing.TB, listen string) *Service {
	if os.Getenv(Binary) == "" {
		t.Skipf("SKIPPED: %s names no tenant-auth-svc to test against", Binary)
	}
	s := &Service{t: t, folder: t.TempDir(), Address: listen}
	t.Cleanup(s.Stop)
	return s
}

func (s *Service) start() {
	s.t.Helper()
	s.process = exec.Command(os.Getenv(Binary), "dev", "--data-dir", s.folder, "--listen", s.Address)
	if s.serve != nil {
		s.process = exec.Command(os.Getenv(Binary), "serve")
		// The service refuses variables that it does not know.
		others := slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "TENANT_AUTH_") })
		s.process.Env = append(append(others, s.serve...), "TENANT_AUTH_LISTEN="+s.Address)
	}
	output, ends, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	s.process.Stdout, s.process.Stderr = ends, ends
	err = s.process.Start()
	_ = ends.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	address, said := ready(output)
	if address == "" {
		s.t.Fatalf("the service ended before it was ready:\n%s", said)
	}
	s.Address = address
}

// ready waits until it serves, and tells where. The rest is read too, so that the service never waits for a reader.
func ready(output io.ReadCloser) (address, said string) {
	lines := bufio.NewScanner(output)
	reached := false
	for lines.Scan() {
		said += lines.Text() + "\n"
		var entry struct{ Message, Address string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err == nil {
			if entry.Message == "serving" {
				address = entry.Address
			}
			reached = reached || strings.HasPrefix(entry.Message, "ready")
			if reached && address != "" {
				go drain(output)
				return address, said
			}
		} else if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "endpoint" {
			go drain(output)
			return fields[1], said
		}
	}
	_ = output.Close()
	return "", said
}

func drain(output io.ReadCloser) {
	_, _ = io.Copy(io.Discard, output)
	_ = output.Close()
}

// Restart starts it again where it was, after Stop or Kill.
func (s *Service) Restart() {
	s.t.Helper()
	s.start()
}

// Suspend makes it hang: connections stay, and nothing is answered.
func (s *Service) Suspend() { s.signal(syscall.SIGSTOP) }

// Resume ends a Suspend.
func (s *Service) Resume() { s.signal(syscall.SIGCONT) }

// Reload makes it read its files again.
func (s *Service) Reload() { s.signal(syscall.SIGHUP) }

// Kill ends it at once.
func (s *Service) Kill() { s.end(syscall.SIGKILL) }

// Stop ends it as an operator does.
func (s *Service) Stop() { s.end(syscall.SIGTERM) }

func (s *Service) signal(signal syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Service) end(signal syscall.Signal) {
	if s.process == nil || s.process.Process == nil {
		return
	}
	_ = s.process.Process.Signal(signal)
	// One that hangs hears of it only then.
	_ = s.process.Process.Signal(syscall.SIGCONT)
	_ = s.process.Wait()
	s.process = nil
}
