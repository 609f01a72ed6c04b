package main

import (
	"context"
	"errors"
	"sync"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

func requireKey(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	principal, err := client.RequireKey(ctx, c.Key, c.Scopes...)
	var denied *tenantauth.Denied
	if errors.As(err, &denied) {
		missing := denied.MissingScopes
		if missing == nil {
			missing = []string{}
		}
		return answer{"denied": denied.Verdict.String(), "missing_scopes": missing}, nil
	}
	return answer{"principal": answer{"tenant_id": principal.TenantID, "key_id": principal.KeyID}}, err
}

// call is the result of one call of a load.
type call struct {
	verdict, failed string
	latency         time.Duration
}

// load validates a key repeatedly, one call per interval, whether or not earlier calls have completed.
func load(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	calls := make([]call, c.Calls)
	var permits chan struct{}
	if c.Concurrency > 0 {
		permits = make(chan struct{}, c.Concurrency)
	}
	interval := max(time.Duration(c.IntervalMS)*time.Millisecond, 1)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var all sync.WaitGroup
	for index := range calls {
		if permits != nil {
			permits <- struct{}{}
		}
		all.Go(func() {
			calls[index] = validateOnce(ctx, client, c)
			if permits != nil {
				<-permits
			}
		})
		if index < len(calls)-1 {
			<-ticker.C
		}
	}
	all.Wait()
	return summary(calls), nil
}

func validateOnce(ctx context.Context, client *tenantauth.Client, c command) call {
	if c.TimeoutMS > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(c.TimeoutMS)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	began := time.Now()
	validation, err := client.ValidateKey(ctx, c.Key, c.Scopes...)
	made := call{latency: time.Since(began)}
	if err != nil {
		made.failed = codeName(err)
	} else {
		made.verdict = validation.Verdict.String()
	}
	return made
}

func summary(calls []call) answer {
	verdicts, failures := map[string]int{}, map[string]int{}
	latencies := make([]float64, 0, len(calls))
	answered := 0
	for _, made := range calls {
		latencies = append(latencies, float64(made.latency)/float64(time.Millisecond))
		if made.failed != "" {
			failures[made.failed]++
			continue
		}
		answered++
		verdicts[made.verdict]++
	}
	return answer{"ok": answered, "verdicts": verdicts, "errors": failures, "latency_ms": latencies}
}

// recordMany records events one by one through a recorder, and waits until they are committed or rejected.
func recordMany(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	var mu sync.Mutex
	rejected := 0
	recorder, err := client.NewRecorder(tenantauth.WithOnRejected(func(tenantauth.UsageEvent, error) {
		mu.Lock()
		defer mu.Unlock()
		rejected++
	}))
	if err != nil {
		return nil, err
	}
	defer recorder.Close(ctx)
	for range c.Count {
		err := recorder.Record(tenantauth.UsageEvent{TenantID: c.TenantID, Metric: c.Metric, Quantity: 1})
		if errors.Is(err, tenantauth.ErrQueueFull) {
			if err = recorder.Flush(ctx); err == nil {
				err = recorder.Record(tenantauth.UsageEvent{TenantID: c.TenantID, Metric: c.Metric, Quantity: 1})
			}
		}
		switch {
		case errors.Is(err, tenantauth.ErrInvalid):
			mu.Lock()
			rejected++
			mu.Unlock()
		case err != nil:
			return nil, err
		}
	}
	if err := recorder.Flush(ctx); err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	return answer{"accepted": c.Count - rejected, "rejected": rejected}, nil
}
