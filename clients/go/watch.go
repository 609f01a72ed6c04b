package tenantauth

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const (
	// watchLivenessTimeout is the time without an event after which a stream is closed. Heartbeats arrive each second.
	watchLivenessTimeout = 3 * time.Second
	// watchUnsupportedDelay is the delay before the next attempt if the service does not offer the stream. It may be
	// replaced by a version that does.
	watchUnsupportedDelay = time.Minute
)

// watchBackoff starts short, so that a broken stream is usually resumed before the liveness timeout has passed.
var watchBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}

// WatchState is the state of the watch stream.
type WatchState struct {
	// Live reports whether the client has received all changes up to now.
	Live bool
	// Revision is the last revision that was handled; 0 before the first.
	Revision int64
}

// WatchState returns the state of the watch stream.
func (c *Client) WatchState() WatchState {
	if c.cache == nil {
		return WatchState{}
	}
	live, revision := c.cache.WatchState()
	return WatchState{Live: live, Revision: revision}
}

// runWatch follows the watch stream until the context ends.
func (c *Client) runWatch(ctx context.Context) {
	for failures := 1; ; failures++ {
		received, err := c.readStream(ctx)
		if ctx.Err() != nil {
			return
		}
		if received {
			failures = 1
		}
		delay := watchBackoff.Delay(failures)
		code := status.Code(err)
		switch {
		case code == codes.Unimplemented || code == codes.FailedPrecondition:
			// The server does not implement the stream, or does not follow the change log.
			c.cache.MarkBroken()
			c.guards.onEvent()
			delay = watchUnsupportedDelay
		case code == codes.ResourceExhausted && received:
			// The client read too slowly and was disconnected. The missed changes are too many to catch up with.
			c.cache.StartOver(0)
			c.guards.onEvent()
			c.guards.onStartOver()
		}
		c.options.logger.Warn("tenant-auth: watch stream ended", "code", code.String(), "again_in", delay)
		if clock.Sleep(ctx, c.options.clock, delay) != nil {
			return
		}
	}
}

// readStream reads one stream, and reports whether it received an event.
func (c *Client) readStream(ctx context.Context) (received bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, resume := c.cache.WatchState()
	if resume == 0 {
		// Without a revision to resume from, the stream starts with the changes made from now on.
		c.cache.MarkBroken()
		c.guards.onEvent()
	}
	ctx, attempt := replicas.NewAttempt(ctx)
	onTimeout := func() {
		c.pool.CheckLiveness(attempt)
		cancel()
	}
	// Each event restarts the liveness timeout.
	stop := c.options.clock.AfterFunc(watchLivenessTimeout, onTimeout)
	defer func() { stop() }()
	request := &tenantauthv1.WatchRequest{ResumeAfterRevision: resume}
	stream, err := tenantauthv1.NewWatchServiceClient(c.conn).Watch(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return received, err
		}
		received = true
		c.applyEvent(event)
		stop()
		stop = c.options.clock.AfterFunc(watchLivenessTimeout, onTimeout)
	}
}

func (c *Client) applyEvent(event *tenantauthv1.WatchResponse) {
	updateGuards := c.guards.onStartOver
	switch kind := event.GetEvent().(type) {
	case *tenantauthv1.WatchResponse_Heartbeat:
		updateGuards = func() { c.guards.onServerTime(kind.Heartbeat.GetSentAt()) }
	case *tenantauthv1.WatchResponse_Invalidation:
		subject, ok := c.invalidationSubject(kind.Invalidation)
		if !ok {
			c.cache.StartOver(event.GetRevision())
			break
		}
		c.cache.Invalidate(subject, event.GetRevision())
		updateGuards = func() { c.guards.onReported(subject) }
	default:
		// START_OVER, or an event that this version does not know. In the second case it is unknown what to invalidate.
		c.cache.StartOver(event.GetRevision())
	}
	c.cache.RecordEvent(event.GetRevision())
	// Answers that are requested from now on reflect the event.
	c.guards.onEvent()
	updateGuards()
}

func (c *Client) invalidationSubject(invalidation *tenantauthv1.Invalidation) (near.Subject, bool) {
	switch invalidation.GetScope() {
	case tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_KEY:
		return near.Subject{Kind: near.Key, ID: invalidation.GetId()}, true
	case tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_TENANT:
		return near.Subject{Kind: near.Tenant, ID: invalidation.GetId()}, true
	case tenantauthv1.InvalidationScope_INVALIDATION_SCOPE_SESSION:
		return c.sessionSubject(invalidation.GetId()), true
	default:
		return near.Subject{}, false
	}
}
