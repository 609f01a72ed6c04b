// Command conformance does what a driver says: one JSON command a line on stdin, one JSON answer a line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// longestLine is room for a batch of a thousand keys.
const longestLine = 16 << 20

func main() {
	var options []tenantauth.Option
	if os.Getenv("TENANT_AUTH_NEAR_CACHE") == "off" {
		options = append(options, tenantauth.WithoutNearCache())
	}
	if os.Getenv("TENANT_AUTH_WATCH") == "off" {
		options = append(options, tenantauth.WithoutWatch())
	}
	if err := run(os.Getenv("TENANT_AUTH_ENDPOINTS"), options, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// run answers until it is told to close, or nobody is left to tell it.
func run(endpoints string, options []tenantauth.Option, commands io.Reader, answers io.Writer) error {
	client, err := tenantauth.New(endpoints, options...)
	if err != nil {
		return err
	}
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
	if c.TimeoutMS > 0 {
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
