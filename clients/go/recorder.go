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
	// maxBatchEvents is the contract's maximum number of events per call.
	maxBatchEvents       = 500
	defaultRecorderDelay = time.Second
	defaultRecorderQueue = 10_000
)

// ErrQueueFull means that the queue of the recorder is full. The event was not recorded.
var ErrQueueFull = errors.New("tenant-auth: usage queue full")

// Recorder collects usage events and sends them in batches, each until it is committed. It never drops events silently:
// it rejects events while its queue is full, and [Recorder.Close] returns the events that could not be sent.
type Recorder struct {
	client     *Client
	delay      time.Duration
	capacity   int
	onRejected func(UsageEvent, error)
	// errs are the errors of invalid options.
	errs []error

	mu sync.Mutex
	// queue holds the events that are not in a batch yet.
	queue []UsageEvent
	// batch is being sent. It keeps its id and its events until the service has responded.
	batch *UsageBatch
	// flushDue means that the queue is sent even if it does not fill a batch.
	flushDue bool
	// stopTimer stops the timer that sets flushDue; nil if no timer runs.
	stopTimer func() bool
	closed    bool
	// progress is closed and replaced whenever events were committed or rejected.
	progress                     chan struct{}
	recordedCount, finishedCount uint64

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// RecorderOption configures a [Recorder].
type RecorderOption func(*Recorder)

// WithRecorderDelay sets the maximum time that an event waits for others. Default: 1 s.
func WithRecorderDelay(delay time.Duration) RecorderOption {
	return func(r *Recorder) {
		if delay <= 0 || delay > maxDuration {
			r.addError("WithRecorderDelay", delay, "must be more than 0 and at most 24h")
			return
		}
		r.delay = delay
	}
}

// WithRecorderQueue sets the maximum number of queued events, including those being sent. Default: 10,000.
func WithRecorderQueue(events int) RecorderOption {
	return func(r *Recorder) {
		if events < 1 || events > maxEntries {
			r.addError("WithRecorderQueue", events, "must be 1 to 10,000,000")
			return
		}
		r.capacity = events
	}
}

// WithOnRejected sets the function that is called for each event that is rejected for good. Default: the client logs
// the event.
func WithOnRejected(onRejected func(UsageEvent, error)) RecorderOption {
	return func(r *Recorder) {
		if onRejected == nil {
			r.addError("WithOnRejected", "nil", "must be a function")
			return
		}
		r.onRejected = onRejected
	}
}

func (r *Recorder) addError(option string, value any, fix string) {
	r.errs = append(r.errs, fmt.Errorf("%s(%v): %s", option, value, fix))
}

// NewRecorder starts a recorder. Close it before the client: queued events are lost when the process ends.
func (c *Client) NewRecorder(opts ...RecorderOption) (*Recorder, error) {
	ctx, cancel := context.WithCancel(context.Background())
	recorder := &Recorder{
		client:   c,
		delay:    defaultRecorderDelay,
		capacity: defaultRecorderQueue,
		onRejected: func(event UsageEvent, err error) {
			c.options.logger.Error("tenant-auth: usage event rejected",
				"tenant_id", event.TenantID, "metric", event.Metric, "quantity", event.Quantity, "error", err)
		},
		progress: make(chan struct{}),
		wake:     make(chan struct{}, 1),
		cancel:   cancel,
		done:     make(chan struct{}),
	}
	for _, option := range opts {
		if option == nil {
			recorder.errs = append(recorder.errs, errors.New("an option is nil; leave it out"))
			continue
		}
		option(recorder)
	}
	if err := errors.Join(recorder.errs...); err != nil {
		cancel()
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gate.isClosed() {
		cancel()
		return nil, closedError()
	}
	c.recorders[recorder] = struct{}{}
	go recorder.run(ctx)
	return recorder, nil
}

// Record queues an event or returns an error: [ErrInvalid] for an event that violates the contract, [ErrQueueFull] if
// the queue is full. It never blocks.
func (r *Recorder) Record(event UsageEvent) error {
	if err := checkUsage(event); err != nil {
		return err
	}
	if event.At.IsZero() {
		// The time is set here, not on arrival: an event that is delayed by an outage still belongs to its own hour.
		event.At = r.client.options.clock.Now()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return closedError()
	}
	if r.queuedCount() >= r.capacity {
		return ErrQueueFull
	}
	r.queue = append(r.queue, event)
	r.recordedCount++
	switch {
	case len(r.queue) >= maxBatchEvents:
		r.wakeSender()
	case r.stopTimer == nil:
		r.stopTimer = r.client.options.clock.AfterFunc(r.delay, r.setFlushDue)
	}
	return nil
}

// Flush sends all events recorded so far, and returns when they are committed or the context ends.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	until := r.recordedCount
	r.mu.Unlock()
	for {
		r.mu.Lock()
		done, progress := r.finishedCount >= until, r.progress
		if !done {
			r.flushDue = true
			r.wakeSender()
		}
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-progress:
		case <-r.done:
			return closedError()
		case <-ctx.Done():
			return fmt.Errorf("tenant-auth: usage not flushed: %w", ctx.Err())
		}
	}
}

// Close rejects new events, sends the queued ones until the context ends, and returns the batches that could not be
// sent. A batch may already be counted: to send it again, pass it unchanged to [Client.RecordUsage].
func (r *Recorder) Close(ctx context.Context) []UsageBatch {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	// The error is ignored because the returned batches say more.
	_ = r.Flush(ctx)
	r.cancel()
	<-r.done
	r.client.mu.Lock()
	delete(r.client.recorders, r)
	r.client.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopTimer != nil {
		r.stopTimer()
	}
	var unsent []UsageBatch
	if r.batch != nil {
		unsent = append(unsent, *r.batch)
		r.batch = nil
	}
	for len(r.queue) > 0 {
		unsent = append(unsent, r.takeBatch())
	}
	return unsent
}

// queuedCount must be called with the lock held, as must all methods below.
func (r *Recorder) queuedCount() int {
	count := len(r.queue)
	if r.batch != nil {
		count += len(r.batch.Events)
	}
	return count
}

func (r *Recorder) wakeSender() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// takeBatch creates a batch of the oldest events.
func (r *Recorder) takeBatch() UsageBatch {
	size := min(maxBatchEvents, len(r.queue))
	events := r.queue[:size:size]
	r.queue = r.queue[size:]
	return UsageBatch{RequestID: rand.Text(), Events: events}
}
