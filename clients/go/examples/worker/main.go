// Command worker is an example of a worker that runs jobs for customers with API keys and records their usage. Jobs are
// lines on stdin:
//
//	echo "{\"id\":\"1\",\"key\":\"$KEY\",\"text\":\"count these four words\"}" | go run ./examples/worker -tenant-auth 127.0.0.1:50051
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func main() {
	endpoints := flag.String("tenant-auth", "127.0.0.1:50051", "endpoints of tenant-auth: host:port,host:port")
	waitTimeout := flag.Duration("wait-timeout", 30*time.Second, "how long to wait for tenant-auth during an outage, per job, and for sending usage at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *endpoints, *waitTimeout, os.Stdin, os.Stdout); err != nil {
		slog.Error("worker failed", "error", err)
		os.Exit(1)
	}
}

type job struct {
	ID   string         `json:"id"`
	Key  tenantauth.Key `json:"key"`
	Text string         `json:"text"`
}

type result struct {
	ID       string `json:"id"`
	TenantID string `json:"tenant_id,omitempty"`
	Words    int    `json:"words,omitempty"`
	Denied   string `json:"denied,omitempty"`
}

// run processes all jobs, and then sends the recorded usage.
func run(ctx context.Context, endpoints string, timeout time.Duration, jobs io.Reader, results io.Writer) error {
	client, err := tenantauth.New(endpoints, tenantauth.WithUserAgent("word-counter"), tenantauth.WithLogger(slog.Default()))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	recorder, err := client.NewRecorder()
	if err != nil {
		return err
	}
	worker := &worker{client: client, recorder: recorder, timeout: timeout}
	err = worker.all(ctx, jobs, json.NewEncoder(results))
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for _, batch := range worker.recorder.Close(last) {
		// A real worker would store the batch on disk and send it again with its id.
		err = errors.Join(err, fmt.Errorf("usage not sent: %d events with request id %s", len(batch.Events), batch.RequestID))
	}
	return err
}

type worker struct {
	client   *tenantauth.Client
	recorder *tenantauth.Recorder
	timeout  time.Duration
}

func (w *worker) all(ctx context.Context, jobs io.Reader, results *json.Encoder) error {
	lines := bufio.NewScanner(jobs)
	for lines.Scan() && ctx.Err() == nil {
		var next job
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			return fmt.Errorf("invalid job line: %w", err)
		}
		done, err := w.do(ctx, next)
		if err != nil {
			return fmt.Errorf("job %s: %w", next.ID, err)
		}
		if err := results.Encode(done); err != nil {
			return err
		}
	}
	return lines.Err()
}

// do processes one job. A denial is a result; an undecided key is an error, and the job is not done.
func (w *worker) do(ctx context.Context, next job) (result, error) {
	// No end user waits for a worker, so during an outage it waits for a decision.
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	principal, err := w.client.RequireKey(ctx, next.Key, "demo:write")
	var denied *tenantauth.Denied
	if errors.As(err, &denied) {
		return result{ID: next.ID, Denied: denied.Verdict.String()}, nil
	}
	if err != nil {
		return result{}, err
	}
	words := len(strings.Fields(next.Text))
	if err := w.count(ctx, tenantauth.UsageEvent{TenantID: principal.TenantID, Metric: "words.counted", Quantity: int64(words)}); err != nil {
		return result{}, err
	}
	return result{ID: next.ID, TenantID: principal.TenantID, Words: words}, nil
}

// count waits if the queue is full: a job that cannot be counted is not done.
func (w *worker) count(ctx context.Context, usage tenantauth.UsageEvent) error {
	err := w.recorder.Record(usage)
	if !errors.Is(err, tenantauth.ErrQueueFull) {
		return err
	}
	if err := w.recorder.Flush(ctx); err != nil {
		return err
	}
	return w.recorder.Record(usage)
}
