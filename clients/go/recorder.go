package tenantauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// recorderBatch is the contract's most events in one call.
	recorderBatch = 500
	recorderDelay = time.Second
	recorderQueue = 10_000
)

// ErrQueueFull says that the recorder holds as many events as it may. The event was not taken.
var ErrQueueFull = errors.New("tenant-auth: the queue of usage events is full")

// Recorder collects usage and sends it in batches, each until it is committed. It drops nothing silently: what it cannot
// take it refuses, and what it could not send comes back from [Recorder.Close].
type Recorder struct {
	client     *Client
	delay      time.Duration
	capacity   int
	onRejected func(UsageEvent, error)
	// refused are the options that make no sense.
	refused []error

	mu sync.Mutex
	// queue are the events that are in no batch yet.
	queue []UsageEvent
	// batch is being sent. It stays the same, id and all, until the service has answered.
	batch *UsageBatch
	// due tells that the queue is to be sent even if it makes no full batch.
	due bool
	// alarm makes the queue due; nil when none is set.
	alarm  func() bool
	closed bool
	// settled is closed and replaced whenever events were committed or rejected.
	settled         chan struct{}
	taken, finished uint64

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// RecorderOption changes how a [Recorder] works.
type RecorderOption func(*Recorder)

// WithRecorderDelay is how long an event waits for others at most; 1 s unless set.
func WithRecorderDelay(delay time.Duration) RecorderOption {
	return func(r *Recorder) {
		if delay <= 0 || delay > longestDuration {
			r.refuse("WithRecorderDelay", delay, "must be more than 0 and at most 24h")
			return
		}
		r.delay = delay
	}
}

// WithRecorderQueue is how many events are held at most, those being sent included; 10,000 unless set.
func WithRecorderQueue(events int) RecorderOption {
	return func(r *Recorder) {
		if events < 1 || events > mostEntries {
			r.refuse("WithRecorderQueue", events, "must be 1 to 10,000,000")
			return
		}
		r.capacity = events
	}
}

// WithOnRejected is told of events that can never be counted, and why; unless set, the client's logger is.
func WithOnRejected(onRejected func(UsageEvent, error)) RecorderOption {
	return func(r *Recorder) {
		if onRejected == nil {
			r.refuse("WithOnRejected", "nil", "must be a function")
			return
		}
		r.onRejected = onRejected
	}
}

func (r *Recorder) refuse(option string, value any, fix string) {
	r.refused = append(r.refused, fmt.Errorf("%s(%v): %s", option, value, fix))
}

// NewRecorder starts a recorder. Close it before the client: what it holds when the process ends is lost.
func (c *Client) NewRecorder(opts ...RecorderOption) (*Recorder, error) {
	ctx, cancel := context.WithCancel(context.Background())
	recorder := &Recorder{
		client:   c,
		delay:    recorderDelay,
		capacity: recorderQueue,
		onRejected: func(event UsageEvent, err error) {
			c.options.logger.Error("tenant-auth: usage can never be counted",
				"tenant_id", event.TenantID, "metric", event.Metric, "quantity", event.Quantity, "error", err)
		},
		settled: make(chan struct{}),
		wake:    make(chan struct{}, 1),
		cancel:  cancel,
		done:    make(chan struct{}),
	}
	for _, option := range opts {
		if option == nil {
			recorder.refused = append(recorder.refused, errors.New("an option is nil; leave it out"))
			continue
		}
		option(recorder)
	}
	if err := errors.Join(recorder.refused...); err != nil {
		cancel()
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate.isShut() {
		cancel()
		return nil, closed()
	}
	c.recorders[recorder] = struct{}{}
	go recorder.run(ctx)
	return recorder, nil
}

// Record takes an event, or says why not: what the contract can never take is [ErrInvalid]. It never waits.
func (r *Recorder) Record(event UsageEvent) error {
	if err := checkUsage(event); err != nil {
		return err
	}
	if event.At.IsZero() {
		// Not on arrival: an event that waits for an outage to end still belongs to its own hour.
		event.At = r.client.options.clock.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return closed()
	}
	if r.held() >= r.capacity {
		return ErrQueueFull
	}
	r.queue = append(r.queue, event)
	r.taken++
	switch {
	case len(r.queue) >= recorderBatch:
		r.nudge()
	case r.alarm == nil:
		r.alarm = r.client.options.clock.AfterFunc(r.delay, r.makeDue)
	}
	return nil
}

// Flush sends everything recorded so far, and returns when it is committed or the context ends.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	until := r.taken
	r.mu.Unlock()
	for {
		r.mu.Lock()
		done, settled := r.finished >= until, r.settled
		if !done {
			r.due = true
			r.nudge()
		}
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-settled:
		case <-r.done:
			return closed()
		case <-ctx.Done():
			return fmt.Errorf("tenant-auth: usage was not flushed: %w", ctx.Err())
		}
	}
}

// Close takes no more events, sends what is there until the context ends, and returns what could not be sent. A batch
// that has an id may have been counted: resend it as it is, with [Client.RecordUsage].
func (r *Recorder) Close(ctx context.Context) []UsageBatch {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	// What was not flushed in time is returned below, which says more than the error.
	_ = r.Flush(ctx)
	r.cancel()
	<-r.done
	r.client.mu.Lock()
	delete(r.client.recorders, r)
	r.client.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alarm != nil {
		r.alarm()
	}
	var unsent []UsageBatch
	if r.batch != nil {
		unsent = append(unsent, *r.batch)
		r.batch = nil
	}
	for len(r.queue) > 0 {
		unsent = append(unsent, r.cut())
	}
	return unsent
}

// held is to be called with the lock held, as all below.
func (r *Recorder) held() int {
	count := len(r.queue)
	if r.batch != nil {
		count += len(r.batch.Events)
	}
	return count
}

func (r *Recorder) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// cut makes a batch of the oldest events.
func (r *Recorder) cut() UsageBatch {
	size := min(recorderBatch, len(r.queue))
	events := r.queue[:size:size]
	r.queue = r.queue[size:]
	return UsageBatch{RequestID: rand.Text(), Events: events}
}
