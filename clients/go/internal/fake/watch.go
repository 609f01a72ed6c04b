package fake

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

type watch struct {
	tenantauthv1.UnimplementedWatchServiceServer

	watchMu sync.Mutex
	served  bool
	// opened gets each stream as it begins.
	opened chan *Stream
}

// Stream is one subscription, led by the test.
type Stream struct {
	// ResumeAfter is where the subscriber wants to go on.
	ResumeAfter int64

	events chan *tenantauthv1.WatchResponse
	end    chan error
	ended  <-chan struct{}
}

func (w *watch) init() {
	w.opened = make(chan *Stream, 100)
}

// ServeWatch serves the stream, which is UNIMPLEMENTED unless told to.
func (w *watch) ServeWatch() {
	w.watchMu.Lock()
	defer w.watchMu.Unlock()
	w.served = true
}

// Streams gets each stream as it begins.
func (w *watch) Streams() <-chan *Stream { return w.opened }

// Watch does as the test says.
func (w *watch) Watch(request *tenantauthv1.WatchRequest, stream tenantauthv1.WatchService_WatchServer) error {
	w.watchMu.Lock()
	served := w.served
	w.watchMu.Unlock()
	if !served {
		return status.Error(codes.Unimplemented, "Watch is not served")
	}
	led := &Stream{
		ResumeAfter: request.GetResumeAfterRevision(),
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

// Heartbeat says that nothing is new up to a revision.
func (s *Stream) Heartbeat(revision int64) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_Heartbeat{Heartbeat: &tenantauthv1.Heartbeat{SentAt: timestamppb.Now()}},
	})
}

// Invalidate says that a thing has changed.
func (s *Stream) Invalidate(revision int64, scope tenantauthv1.InvalidationScope, id string) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_Invalidation{Invalidation: &tenantauthv1.Invalidation{Scope: scope, Id: id}},
	})
}

// StartOver says that everything is to be forgotten.
func (s *Stream) StartOver(revision int64) {
	s.send(&tenantauthv1.WatchResponse{
		Revision: revision,
		Event:    &tenantauthv1.WatchResponse_StartOver{StartOver: &tenantauthv1.StartOver{Reason: "the test says so"}},
	})
}

// End ends the stream with an error.
func (s *Stream) End(err error) {
	select {
	case s.end <- err:
	case <-s.ended:
	}
}

// Ended is closed when the subscriber has gone.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

func (s *Stream) send(event *tenantauthv1.WatchResponse) {
	select {
	case s.events <- event:
	case <-s.ended:
	}
}
