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
	// watchSilence is when a stream is given up: heartbeats come each second.
	watchSilence = 3 * time.Second
	// watchUnserved is when a service that does not serve the stream is asked again: it may have been replaced.
	watchUnserved = time.Minute
)

// watchBackoff begins short, so that a stream is mostly resumed before the silence has ended its life.
var watchBackoff = retry.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}

// WatchState is how well this client is informed of changes.
type WatchState struct {
	// Live tells whether everything that changed has been heard of, up to now.
	Live bool
	// Revision is the last one that was handled; 0 before the first.
	Revision int64
}

// WatchState tells how well this client is informed of changes.
func (c *Client) WatchState() WatchState {
	if c.near == nil {
		return WatchState{}
	}
	live, revision := c.near.Watched()
	return WatchState{Live: live, Revision: revision}
}

// watch listens for invalidations until the context ends.
func (c *Client) watch(ctx context.Context) {
	for failures := 1; ; failures++ {
		heard, err := c.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if heard {
			failures = 1
		}
		wait := watchBackoff.Wait(failures)
		code := status.Code(err)
		switch {
		case code == codes.Unimplemented || code == codes.FailedPrecondition:
			// It has no stream, or does not follow the change log that the stream would tell of.
			c.near.Broken()
			wait = watchUnserved
		case code == codes.ResourceExhausted && heard:
			// Cut off for reading too slowly: what is missed would be too much to catch up with.
			c.near.StartOver(0)
		}
		c.options.logger.Warn("tenant-auth: the stream of invalidations ended", "code", code.String(), "again_in", wait)
		if clock.Sleep(ctx, c.options.clock, wait) != nil {
			return
		}
	}
}

// listen handles one stream, and tells whether anything was heard on it.
func (c *Client) listen(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, resume := c.near.Watched()
	if resume == 0 {
		// Without a place to resume from, the stream starts with what happens from now on.
		c.near.Broken()
	}
	ctx, attempt := replicas.Begin(ctx)
	silent := func() {
		c.pool.Doubt(attempt)
		cancel()
	}
	// Each word moves the end of the stream's life.
	stop := c.options.clock.AfterFunc(watchSilence, silent)
	defer func() { stop() }()
	request := &tenantauthv1.WatchRequest{ResumeAfterRevision: resume}
	stream, err := tenantauthv1.NewWatchServiceClient(c.conn).Watch(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		c.handle(event)
		stop()
		stop = c.options.clock.AfterFunc(watchSilence, silent)
	}
}

func (c *Client) handle(event *tenantauthv1.WatchResponse) {
	switch kind := event.GetEvent().(type) {
	case *tenantauthv1.WatchResponse_Heartbeat:
	case *tenantauthv1.WatchResponse_Invalidation:
		if subject, ok := c.subject(kind.Invalidation); ok {
			c.near.Invalidate(subject, event.GetRevision())
		} else {
			c.near.StartOver(event.GetRevision())
		}
	default:
		// To start over, or something that this version does not know: then it cannot know either what to forget.
		c.near.StartOver(event.GetRevision())
	}
	c.near.Heard(event.GetRevision())
}

func (c *Client) subject(invalidation *tenantauthv1.Invalidation) (near.Subject, bool) {
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
