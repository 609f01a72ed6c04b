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

// call is what became of one call of a load.
type call struct {
	verdict, failed string
	took            time.Duration
}

// load asks about a key again and again, one call each interval whether or not those before are answered.
func load(ctx context.Context, client *tenantauth.Client, c command) (answer, error) {
	calls := make([]call, c.Calls)
	var places chan struct{}
	if c.Concurrency > 0 {
		places = make(chan struct{}, c.Concurrency)
	}
	interval := max(time.Duration(c.IntervalMS)*time.Millisecond, 1)
	turns := time.NewTicker(interval)
	defer turns.Stop()
	var all sync.WaitGroup
	for index := range calls {
		if places != nil {
			places <- struct{}{}
		}
		all.Go(func() {
			calls[index] = ask(ctx, client, c)
			if places != nil {
				<-places
			}
		})
		if index < len(calls)-1 {
			<-turns.C
		}
	}
	all.Wait()
	return summary(calls), nil
}

func ask(ctx context.Context, client *tenantauth.Client, c command) call {
	if c.TimeoutMS > 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(c.TimeoutMS)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	began := time.Now()
	validation, err := client.ValidateKey(ctx, c.Key, c.Scopes...)
	made := call{took: time.Since(began)}
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
		latencies = append(latencies, float64(made.took)/float64(time.Millisecond))
		if made.failed != "" {
			failures[made.failed]++
			continue
		}
		answered++
		verdicts[made.verdict]++
	}
	return answer{"ok": answered, "verdicts": verdicts, "errors": failures, "latency_ms": latencies}
}

// recordMany records single events through a recorder, and waits until they are committed or rejected.
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
