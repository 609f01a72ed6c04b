package fake

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

type watch struct {
	tenantauthv1.UnimplementedWatchServiceServer

	watchMu sync.Mutex
	enabled bool
	now     func() time.Time
	// opened receives each stream when it starts.
	opened chan *Stream
}

// Stream is one watch stream, controlled by the test.
type Stream struct {
	// ResumeAfter is the revision after which the subscriber resumes.
	ResumeAfter int64

	now    func() time.Time
	events chan *tenantauthv1.WatchResponse
	end    chan error
	ended  <-chan struct{}
}

func (w *watch) init() {
	w.now = time.Now
	w.opened = make(chan *Stream, 100)
}

// ServeWatch enables the stream, which is UNIMPLEMENTED by default.
func (w *watch) ServeWatch() {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	w.enabled = true
}

func (w *watch) setNow(now func() time.Time) {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	w.now = now
}

// Streams returns a channel that receives each stream when it starts.
func (w *watch) Streams() <-chan *Stream { return w.opened }

// Watch serves a stream that the test controls.
func (w *watch) Watch(request *tenantauthv1.WatchRequest, stream tenantauthv1.WatchService_WatchServer) error {
	w.watchMu.Lock()
	served, now := w.enabled, w.now
	w.watchMu.Unlock()
	if !served {
		return status.Error(codes.Unimplemented, "Watch is not served")
	}
	led := &Stream{
		ResumeAfter: request.GetResumeAfterRevision(),
		now:         now,
		events:      make(chan *tenantauthv1.WatchResponse),
		end:         make(chan error),
		ended:       stream.Context().Done(),
	}
	w.opened <- led
	for {
		select {
		case event := <-led.events:
			if err := stream.Send(event); err != nil {
				return err
			}
		case err := <-led.end:
			return err
		case <-led.ended:
			return nil
		}
	}
}

// Heartbeat sends a heartbeat.
func (s *Stream) Heartbeat(revision int64) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_Heartbeat{Heartbeat: &tenantauthv1.Heartbeat{SentAt: timestamppb.New(s.now())}},
	})
}

// Invalidate sends an invalidation.
func (s *Stream) Invalidate(revision int64, scope tenantauthv1.InvalidationScope, id string) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_Invalidation{Invalidation: &tenantauthv1.Invalidation{Scope: scope, Id: id}},
	})
}

// StartOver sends a START_OVER event.
func (s *Stream) StartOver(revision int64) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_StartOver{StartOver: &tenantauthv1.StartOver{Reason: "requested by the test"}},
	})
}

// End ends the stream with an error.
func (s *Stream) End(err error) {
	select {
	case s.end <- err:
	case <-s.ended:
	}
}

// Ended returns a channel that is closed when the subscriber disconnects.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

func (s *Stream) send(event *tenantauthv1.WatchResponse) {
	select {
	case s.events <- event:
	case <-s.ended:
	}
}
