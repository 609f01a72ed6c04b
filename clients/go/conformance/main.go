// Command conformance runs the commands of the conformance driver: one JSON command per line on stdin, one JSON answer
// per line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// maxLineLen allows a batch of 1,000 keys on one line.
const maxLineLen = 16 << 20

func main() {
	client, err := connect(os.Getenv)
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(answer{"ready": false, "error": err.Error()})
		os.Exit(2)
	}
	if err := run(client, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// connect creates the client that the environment describes.
func connect(variable func(string) string) (*tenantauth.Client, error) {
	var options []tenantauth.Option
	if variable("TENANT_AUTH_NEAR_CACHE") == "off" {
		options = append(options, tenantauth.WithoutNearCache())
	}
	if variable("TENANT_AUTH_WATCH") == "off" {
		options = append(options, tenantauth.WithoutWatch())
	}
	files := tenantauth.TLSFiles{
		CA:         variable("TENANT_AUTH_TLS_CA_FILE"),
		Cert:       variable("TENANT_AUTH_TLS_CERT_FILE"),
		Key:        variable("TENANT_AUTH_TLS_KEY_FILE"),
		ServerName: variable("TENANT_AUTH_TLS_SERVER_NAME"),
	}
	if files != (tenantauth.TLSFiles{}) {
		options = append(options, tenantauth.WithTLSFiles(files))
	}
	if path := variable("TENANT_AUTH_TOKEN_FILE"); path != "" {
		options = append(options, tenantauth.WithCallerTokenFile(path))
	}
	if token := variable("TENANT_AUTH_TOKEN"); token != "" {
		options = append(options, tenantauth.WithCallerToken(token))
	}
	if text := variable("TENANT_AUTH_TIMEOUT_MS"); text != "" {
		milliseconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || milliseconds > math.MaxInt64/int64(time.Millisecond) {
			return nil, fmt.Errorf("TENANT_AUTH_TIMEOUT_MS: %q is not a number of milliseconds", text)
		}
		options = append(options, tenantauth.WithTimeout(time.Duration(milliseconds)*time.Millisecond))
	}
	return tenantauth.New(variable("TENANT_AUTH_ENDPOINTS"), options...)
}

// run answers commands until a close command or the end of the input.
func run(client *tenantauth.Client, commands io.Reader, answers io.Writer) error {
	out := &writer{encoder: json.NewEncoder(answers)}
	out.write(answer{"ready": true})
	lines := bufio.NewScanner(commands)
	lines.Buffer(nil, maxLineLen)
	var inFlight sync.WaitGroup
	for lines.Scan() {
		var received command
		if err := json.Unmarshal(lines.Bytes(), &received); err != nil {
			return fmt.Errorf("invalid command: %w", err)
		}
		if received.Op == "close" {
			inFlight.Wait()
			err := client.Close()
			closed := answer{"closed": true}
			if received.ID != nil {
				closed["id"] = received.ID
			}
			out.write(closed)
			return err
		}
		// Answers may be out of order; ids match them to commands.
		inFlight.Go(func() {
			made := received.do(client)
			made["id"] = received.ID
			out.write(made)
		})
	}
	inFlight.Wait()
	_ = client.Close()
	return lines.Err()
}

type answer map[string]any

// writer writes whole lines. The encoder writes each line with one call.
type writer struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (w *writer) write(made answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The error is ignored because the reader is gone.
	_ = w.encoder.Encode(made)
}

// do runs a command.
func (c command) do(client *tenantauth.Client) answer {
	ctx := tenantauth.ContextWithClientAddressText(context.Background(), c.ClientAddress)
	// In a load, the timeout applies to each call.
	if c.TimeoutMS > 0 && c.Op != "load" {
		limited, cancel := context.WithTimeout(ctx, time.Duration(c.TimeoutMS)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	op, ok := operations[c.Op]
	if !ok {
		return answer{"error": "UNSUPPORTED"}
	}
	made, err := op(ctx, client, c)
	if err != nil {
		return failure(err)
	}
	return made
}
