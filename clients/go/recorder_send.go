package tenantauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
)

// recorderBackoff has long delays because no end user waits and the queue is long.
var recorderBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: 30 * time.Second}

func (r *Recorder) setFlushDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopTimer = nil
	r.flushDue = true
	r.wakeSender()
}

func (r *Recorder) run(ctx context.Context) {
	defer close(r.done)
	for {
		batch := r.nextBatch()
		if batch == nil {
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !r.sendBatch(ctx, batch) {
			return
		}
	}
}

// nextBatch takes a batch from the queue if one is full or due.
func (r *Recorder) nextBatch() *UsageBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.batch != nil {
		return r.batch
	}
	if len(r.queue) == 0 || len(r.queue) < maxBatchEvents && !r.flushDue {
		r.flushDue = false
		return nil
	}
	batch := r.takeBatch()
	if len(r.queue) == 0 {
		r.flushDue = false
	}
	r.batch = &batch
	return r.batch
}

// sendBatch sends a batch until the service responds, and reports whether the recorder should continue.
func (r *Recorder) sendBatch(ctx context.Context, batch *UsageBatch) bool {
	for failures := 1; ; failures++ {
		receipt, err := r.client.recordUsage(ctx, *batch)
		if err == nil {
			r.finishBatch(batch, nil, receipt.Rejected)
			return true
		}
		var failed *Error
		if errors.As(err, &failed) && failed.Kind == ErrInvalid {
			r.dropInvalid(batch, failed)
			return true
		}
		// All other errors may be transient, even a rejected token, which may be replaced. The events are kept.
		wait := recorderBackoff.Delay(failures)
		if failed != nil {
			wait += failed.RetryAfter
		}
		if clock.Sleep(ctx, r.client.options.clock, wait) != nil {
			return false
		}
	}
}

// dropInvalid rejects the events for which the service rejected the whole batch, and keeps the others for sending.
func (r *Recorder) dropInvalid(batch *UsageBatch, failed *Error) {
	invalidIndexes := map[int]bool{}
	for _, violation := range failed.Violations {
		var index int
		if _, err := fmt.Sscanf(violation.Field, "events[%d]", &index); err == nil && index >= 0 && index < len(batch.Events) {
			invalidIndexes[index] = true
		}
	}
	if len(invalidIndexes) == 0 && len(batch.Events) > 1 {
		r.splitBatch(batch)
		return
	}
	var rest []UsageEvent
	var rejected []RejectedUsage
	for index, event := range batch.Events {
		if invalidIndexes[index] || len(invalidIndexes) == 0 {
			rejected = append(rejected, RejectedUsage{Index: index, Err: failed})
		} else {
			rest = append(rest, event)
		}
	}
	r.finishBatch(batch, rest, rejected)
}

// splitBatch handles a rejection that names no event: sending smaller and smaller batches isolates the invalid event.
func (r *Recorder) splitBatch(batch *UsageBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	half := len(batch.Events) / 2
	r.queue = slices.Concat(batch.Events[half:], r.queue)
	r.batch = &UsageBatch{RequestID: rand.Text(), Events: batch.Events[:half:half]}
	r.flushDue = true
}

// finishBatch completes a batch, except for the remaining events. These form a new batch with a new id, because an id
// belongs to one set of events.
func (r *Recorder) finishBatch(batch *UsageBatch, rest []UsageEvent, rejected []RejectedUsage) {
	for _, rejection := range rejected {
		if rejection.Index >= 0 && rejection.Index < len(batch.Events) {
			r.onRejected(batch.Events[rejection.Index], rejection.Err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finishedCount += uint64(len(batch.Events) - len(rest))
	r.batch = nil
	if len(rest) > 0 {
		r.batch = &UsageBatch{RequestID: rand.Text(), Events: rest}
	}
	close(r.progress)
	r.progress = make(chan struct{})
}
