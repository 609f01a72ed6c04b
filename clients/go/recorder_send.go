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

// recorderBackoff is patient: nobody waits, and the queue is long.
var recorderBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: 30 * time.Second}

func (r *Recorder) makeDue() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alarm = nil
	r.due = true
	r.nudge()
}

func (r *Recorder) run(ctx context.Context) {
	defer close(r.done)
	for {
		batch := r.next()
		if batch == nil {
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !r.deliver(ctx, batch) {
			return
		}
	}
}

// next takes a batch from the queue when one is full or due.
func (r *Recorder) next() *UsageBatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.batch != nil {
		return r.batch
	}
	if len(r.queue) == 0 || len(r.queue) < recorderBatch && !r.due {
		r.due = false
		return nil
	}
	batch := r.cut()
	if len(r.queue) == 0 {
		r.due = false
	}
	r.batch = &batch
	return r.batch
}

// deliver sends a batch until it is answered, and tells whether there is more to do.
func (r *Recorder) deliver(ctx context.Context, batch *UsageBatch) bool {
	for failures := 1; ; failures++ {
		receipt, err := r.client.recordUsage(ctx, *batch)
		if err == nil {
			r.settle(batch, nil, receipt.Rejected)
			return true
		}
		var failed *Error
		if errors.As(err, &failed) && failed.Kind == ErrInvalid {
			r.sortOut(batch, failed)
			return true
		}
		// All else may pass, even a token that is not accepted: it may be replaced. The events are kept meanwhile.
		wait := recorderBackoff.Wait(failures)
		if failed != nil {
			wait += failed.RetryAfter
		}
		if clock.Sleep(ctx, r.client.options.clock, wait) != nil {
			return false
		}
	}
}

// sortOut rejects the events for which the service refused the whole batch, and leaves the others to be sent.
func (r *Recorder) sortOut(batch *UsageBatch, failed *Error) {
	guilty := map[int]bool{}
	for _, violation := range failed.Violations {
		var index int
		if _, err := fmt.Sscanf(violation.Field, "events[%d]", &index); err == nil && index >= 0 && index < len(batch.Events) {
			guilty[index] = true
		}
	}
	if len(guilty) == 0 && len(batch.Events) > 1 {
		r.halve(batch)
		return
	}
	var rest []UsageEvent
	var rejected []RejectedUsage
	for index, event := range batch.Events {
		if guilty[index] || len(guilty) == 0 {
			rejected = append(rejected, RejectedUsage{Index: index, Err: failed})
		} else {
			rest = append(rest, event)
		}
	}
	r.settle(batch, rest, rejected)
}

// halve is for a refusal that names no event: the one at fault is found by sending ever fewer together.
func (r *Recorder) halve(batch *UsageBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	half := len(batch.Events) / 2
	r.queue = slices.Concat(batch.Events[half:], r.queue)
	r.batch = &UsageBatch{RequestID: rand.Text(), Events: batch.Events[:half:half]}
	r.due = true
}

// settle is done with a batch but for the rest, which becomes a batch of its own: other events need another id.
func (r *Recorder) settle(batch *UsageBatch, rest []UsageEvent, rejected []RejectedUsage) {
	for _, rejection := range rejected {
		if rejection.Index >= 0 && rejection.Index < len(batch.Events) {
			r.onRejected(batch.Events[rejection.Index], rejection.Err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.finished += uint64(len(batch.Events) - len(rest))
	r.batch = nil
	if len(rest) > 0 {
		r.batch = &UsageBatch{RequestID: rand.Text(), Events: rest}
	}
	close(r.settled)
	r.settled = make(chan struct{})
}
