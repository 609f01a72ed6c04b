package httpauth

import (
	"bufio"
	"bytes"
	"context"
	"mime"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// lastWriteTimeout is how long a write may block after the guard has ended the stream: the customer may not read.
const lastWriteTimeout = time.Second

// streamWriter is the response of a guarded request. It is the only writer to the response, so that the final event is
// neither inside another one nor followed by one.
type streamWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
	ctx        context.Context

	isHijacked atomic.Bool

	// mu is held while the response is written.
	mu            sync.Mutex
	hasBegun      bool
	isEventStream bool
	// tail are the last bytes of the body.
	tail []byte
}

// Unwrap returns the response, for [http.ResponseController].
func (s *streamWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// WriteHeader begins the response, unless the stream has ended.
func (s *streamWriter) WriteHeader(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended() != nil {
		return
	}
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		s.begin()
	}
	s.ResponseWriter.WriteHeader(status)
}

// Write writes to the body. If the stream has ended, it returns the cause.
func (s *streamWriter) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended(); err != nil {
		return 0, err
	}
	s.begin()
	written, err := s.ResponseWriter.Write(data)
	s.tail = append(s.tail, data[max(0, written-4):written]...)
	s.tail = s.tail[max(0, len(s.tail)-4):]
	return written, err
}

// FlushError sends what was written. If the stream has ended, it returns the cause.
func (s *streamWriter) FlushError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended(); err != nil {
		return err
	}
	s.begin()
	return s.controller.Flush()
}

// Flush is FlushError for handlers that use [http.Flusher].
func (s *streamWriter) Flush() { _ = s.FlushError() }

// Hijack hands the connection over to the handler.
func (s *streamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ended(); err != nil {
		return nil, nil, err
	}
	conn, buffered, err := s.controller.Hijack()
	s.isHijacked.Store(err == nil)
	return conn, buffered, err
}

// begin notes what the handler has decided about the response.
func (s *streamWriter) begin() {
	if !s.hasBegun {
		kind, _, _ := mime.ParseMediaType(s.Header().Get("Content-Type"))
		s.hasBegun, s.isEventStream = true, kind == "text/event-stream"
	}
}

// ended returns why the guard has ended the stream.
func (s *streamWriter) ended() error {
	if ended, ok := tenantauth.EndOf(s.ctx); ok {
		return ended
	}
	return nil
}

// finish ends the stream after its context has ended.
func (s *streamWriter) finish() {
	ended, ok := tenantauth.EndOf(s.ctx)
	if !ok || s.isHijacked.Load() {
		return
	}
	// Errors are ignored: the customer may have left, and not every response has deadlines.
	_ = s.controller.SetWriteDeadline(time.Now().Add(lastWriteTimeout))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasBegun && s.isEventStream && s.isBetweenEvents() {
		_ = WriteEnd(s.ResponseWriter, ended)
	}
	// The connection may serve further requests.
	_ = s.controller.SetWriteDeadline(time.Time{})
}

// isBetweenEvents reports whether the last event is complete. Clients discard one that is not when the response ends.
func (s *streamWriter) isBetweenEvents() bool {
	return len(s.tail) == 0 || bytes.HasSuffix(s.tail, []byte("\n\n")) || bytes.HasSuffix(s.tail, []byte("\r\r")) ||
		bytes.HasSuffix(s.tail, []byte("\r\n\r\n"))
}
