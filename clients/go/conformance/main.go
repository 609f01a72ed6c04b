// Command conformance does what a driver says: one JSON command a line on stdin, one JSON answer a line on stdout.
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

// longestLine is room for a batch of a thousand keys.
const longestLine = 16 << 20

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

// connect makes the client that the environment describes.
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
			return nil, fmt.Errorf("TENANT_AUTH_TIMEOUT_MS: %q is no number of milliseconds", text)
		}
		options = append(options, tenantauth.WithTimeout(time.Duration(milliseconds)*time.Millisecond))
	}
	return tenantauth.New(variable("TENANT_AUTH_ENDPOINTS"), options...)
}

// run answers until it is told to close, or nobody is left to tell it.
func run(client *tenantauth.Client, commands io.Reader, answers io.Writer) error {
	out := &writer{encoder: json.NewEncoder(answers)}
	out.write(answer{"ready": true})
	lines := bufio.NewScanner(commands)
	lines.Buffer(nil, longestLine)
	var under sync.WaitGroup
	for lines.Scan() {
		var given command
		if err := json.Unmarshal(lines.Bytes(), &given); err != nil {
			return fmt.Errorf("a command that is none: %w", err)
		}
		if given.Op == "close" {
			under.Wait()
			err := client.Close()
			closed := answer{"closed": true}
			if given.ID != nil {
				closed["id"] = given.ID
			}
			out.write(closed)
			return err
		}
		// An answer may overtake another: ids tell which is whose.
		under.Go(func() {
			made := given.do(client)
			made["id"] = given.ID
			out.write(made)
		})
	}
	under.Wait()
	_ = client.Close()
	return lines.Err()
}

type answer map[string]any

// writer keeps lines whole. The encoder writes each at once.
type writer struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (w *writer) write(made answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Without a reader there is nobody to tell.
	_ = w.encoder.Encode(made)
}

// do carries a command out.
func (c command) do(client *tenantauth.Client) answer {
	ctx := context.Background()
	// In a load each call has the time for itself.
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
