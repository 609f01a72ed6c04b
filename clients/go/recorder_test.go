package tenantauth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

func event(metric string) tenantauth.UsageEvent {
	return tenantauth.UsageEvent{TenantID: "ten_1", Metric: metric, Quantity: 1}
}

func newRecorder(t *testing.T, client *tenantauth.Client, options ...tenantauth.RecorderOption) *tenantauth.Recorder {
	t.Helper()
	recorder, err := client.NewRecorder(options...)
	if err != nil {
		t.Fatal(err)
	}
	return recorder
}

func (r *rig) record(recorder *tenantauth.Recorder, metric string, times int) {
	r.t.Helper()
	for range times {
		if err := recorder.Record(event(metric)); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestEventsAreBatchedForUpToOneSecond(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	recorder := newRecorder(t, r.client)
	r.record(recorder, "calls", 2)
	recorded := r.clock.Now()
	r.clock.Advance(999 * time.Millisecond)
	r.record(recorder, "calls", 1)
	r.expectCalls("RecordUsage", 0)
	r.clock.Advance(time.Millisecond)
	r.await("the batch", func() bool { return r.service.Calls("RecordUsage") == 1 })
	if err := recorder.Flush(r.ctx); err != nil {
		t.Fatal(err)
	}
	ids, batches := r.service.Recorded()
	if len(ids) != 1 || ids[0] == "" || len(batches[ids[0]]) != 3 {
		t.Fatalf("%v", batches)
	}
	// An event keeps the time at which it was recorded, not the time at which it was sent.
	if at := batches[ids[0]][0].GetOccurredAt().AsTime(); !at.Equal(recorded) {
		t.Errorf("event time %v, want %v", at, recorded)
	}
	if unsent := recorder.Close(r.ctx); unsent != nil {
		t.Errorf("%v", unsent)
	}
	if err := recorder.Record(event("calls")); !errors.Is(err, tenantauth.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestFullBatchIsSentImmediately(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch())
	recorder := newRecorder(t, r.client)
	r.record(recorder, "calls", 501)
	r.await("the full batch", func() bool {
		ids, batches := r.service.Recorded()
		return len(ids) == 1 && len(batches[ids[0]]) == 500
	})
	if unsent := recorder.Close(r.ctx); unsent != nil {
		t.Errorf("%d batches were not sent", len(unsent))
	}
	if ids, batches := r.service.Recorded(); len(ids) != 2 || len(batches[ids[1]]) != 1 {
		t.Errorf("%d batches", len(ids))
	}
}

func TestBatchIsResentUnchangedUntilAnswered(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1))
	recorder := newRecorder(t, r.client)
	var calls atomic.Int32
	ids := make(chan string, 10)
	sizes := make(chan int, 10)
	r.service.Before(func(_ context.Context, _ string, request any) error {
		usage := request.(*tenantauthv1.RecordUsageRequest)
		ids <- usage.GetRequestId()
		sizes <- len(usage.GetEvents())
		switch calls.Add(1) {
		case 1:
			return status.Error(codes.Unavailable, "gone")
		case 2:
			return status.Error(codes.Unauthenticated, "the token is being rotated")
		}
		return nil
	})
	r.record(recorder, "calls", 3)
	r.advance(time.Second)
	id := <-ids
	// Events recorded in the meantime go into another batch.
	r.record(recorder, "late", 1)
	for _, backoff := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond} {
		r.advance(backoff)
		if again := <-ids; again != id {
			t.Errorf("%s was resent as %s", id, again)
		}
	}
	for range 3 {
		if size := <-sizes; size != 3 {
			t.Errorf("the batch has %d events", size)
		}
	}
	if unsent := recorder.Close(r.ctx); unsent != nil {
		t.Errorf("%v", unsent)
	}
	if recorded, batches := r.service.Recorded(); len(recorded) != 2 || len(batches[id]) != 3 {
		t.Errorf("%v", batches)
	}
}

func TestFullQueueRejectsAndLosesNothing(t *testing.T) {
	r := start(t, tenantauth.WithoutWatch(), tenantauth.WithAttempts(1))
	r.service.Before(func(context.Context, string, any) error { return status.Error(codes.Unavailable, "gone") })
	recorder := newRecorder(t, r.client, tenantauth.WithRecorderQueue(600))
	r.record(recorder, "calls", 600)
	r.await("an attempt", func() bool { return r.service.Calls("RecordUsage") > 0 })
	// Events that are being sent count too.
	if err := recorder.Record(event("calls")); !errors.Is(err, tenantauth.ErrQueueFull) {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(r.ctx)
	cancel()
	if err := recorder.Flush(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	unsent := recorder.Close(ended)
	if len(unsent) != 2 || len(unsent[0].Events) != 500 || len(unsent[1].Events) != 100 || unsent[0].RequestID == unsent[1].RequestID {
		t.Fatalf("%d batches were returned", len(unsent))
	}
	// The first batch may already be counted: sent again unchanged, it counts once.
	r.service.Before(nil)
	for _, already := range []bool{false, true} {
		receipt, err := r.client.RecordUsage(r.ctx, unsent[0])
		if err != nil || receipt.Accepted != 500 || receipt.AlreadyRecorded != already {
			t.Errorf("%+v, %v", receipt, err)
		}
	}
}

func TestRejectedEventsAreReported(t *testing.T) {
	for _, metric := range []string{"never", "named", "nameless"} {
		t.Run(metric, func(t *testing.T) {
			r := start(t, tenantauth.WithoutWatch())
			var rejected []string
			recorder := newRecorder(t, r.client, tenantauth.WithOnRejected(func(event tenantauth.UsageEvent, err error) {
				rejected = append(rejected, fmt.Sprint(event.Metric, " ", toError(t, err).Code))
			}))
			r.record(recorder, "good", 200)
			r.record(recorder, metric, 1)
			r.record(recorder, "good", 200)
			if unsent := recorder.Close(r.ctx); unsent != nil {
				t.Errorf("%v", unsent)
			}
			if len(rejected) != 1 || rejected[0] != metric+" InvalidArgument" {
				t.Errorf("%v", rejected)
			}
			counted := 0
			_, batches := r.service.Recorded()
			for _, batch := range batches {
				counted += len(batch)
			}
			if counted != 400 {
				t.Errorf("%d events were counted", counted)
			}
		})
	}
}

func TestInvalidEventIsRejectedByField(t *testing.T) {
	r := start(t)
	recorder := newRecorder(t, r.client)
	good := event("calls")
	for field, spoil := range map[string][]func(*tenantauth.UsageEvent){
		"tenant_id": {
			func(e *tenantauth.UsageEvent) { e.TenantID = "" },
			func(e *tenantauth.UsageEvent) { e.TenantID = "ten\xff" },
			func(e *tenantauth.UsageEvent) { e.TenantID = "ten 1" },
			func(e *tenantauth.UsageEvent) { e.TenantID = strings.Repeat("a", 65) },
			func(e *tenantauth.UsageEvent) { e.TenantID = strings.Repeat("a", 5<<20) },
		},
		"metric": {
			func(e *tenantauth.UsageEvent) { e.Metric = "" },
			func(e *tenantauth.UsageEvent) { e.Metric = "Calls" },
			func(e *tenantauth.UsageEvent) { e.Metric = "1calls" },
			func(e *tenantauth.UsageEvent) { e.Metric = "calls\xff" },
			func(e *tenantauth.UsageEvent) { e.Metric = strings.Repeat("a", 65) },
		},
		"quantity": {
			func(e *tenantauth.UsageEvent) { e.Quantity = -1 },
			func(e *tenantauth.UsageEvent) { e.Quantity = 1_000_000_000_001 },
		},
		"occurred_at": {
			func(e *tenantauth.UsageEvent) { e.At = time.Date(1969, time.December, 31, 23, 59, 59, 0, time.UTC) },
			func(e *tenantauth.UsageEvent) { e.At = time.Date(10_000, time.January, 1, 0, 0, 0, 0, time.UTC) },
		},
	} {
		for number, spoil := range spoil {
			event := good
			spoil(&event)
			if made := toError(t, recorder.Record(event)); made.Kind != tenantauth.ErrInvalid || made.Violations[0].Field != field || len(made.Error()) > 200 {
				t.Errorf("%s %d: %+v", field, number, made)
			}
		}
	}
	most := tenantauth.UsageEvent{
		TenantID: strings.Repeat("A", 64), Metric: "a" + strings.Repeat(".", 63), Quantity: 1_000_000_000_000,
		At: time.Date(9999, time.December, 31, 23, 59, 59, 999_999_999, time.UTC),
	}
	if err := recorder.Record(most); err != nil {
		t.Errorf("%v", err)
	}
	recorder.Close(r.ctx)
}

func TestUsageSumsAreLoadedPageByPage(t *testing.T) {
	r := start(t)
	at := time.Date(2030, time.May, 6, 7, 0, 0, 0, time.UTC)
	batch := tenantauth.UsageBatch{RequestID: "request-1"}
	for n := range 5 {
		batch.Events = append(batch.Events, tenantauth.UsageEvent{TenantID: "ten_1", Metric: "calls", Quantity: int64(n), At: at})
	}
	if _, err := r.client.RecordUsage(r.ctx, batch); err != nil {
		t.Fatal(err)
	}
	query := tenantauth.UsageQuery{TenantID: "ten_1", Metric: "calls", Start: at, End: at.Add(time.Hour), Bucket: tenantauth.Hour}
	var quantity int64
	for sum, err := range r.client.QueryUsage(r.ctx, query) {
		if err != nil || sum.Metric != "calls" || !sum.BucketStart.Equal(at) {
			t.Fatalf("%+v, %v", sum, err)
		}
		quantity += sum.Quantity
	}
	if quantity != 10 {
		t.Errorf("%d", quantity)
	}
	r.expectCalls("QueryUsage", 3)
	// A zero time is omitted from the request, so that the service reports it as missing.
	for _, err := range r.client.QueryUsage(r.ctx, tenantauth.UsageQuery{TenantID: "ten_1"}) {
		if made := toError(t, err); made.Violations[0].Field != "start_time" {
			t.Errorf("%+v", made)
		}
	}
}
