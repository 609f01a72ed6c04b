package replicas

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/clock"
)

// wire is a connection that records what is written. Reads return what the test sends.
type wire struct {
	net.Conn
	bytes.Buffer
	data   chan []byte
	closed chan struct{}
}

func newWire() *wire { return &wire{data: make(chan []byte), closed: make(chan struct{})} }

func (w *wire) Write(data []byte) (int, error) { return w.Buffer.Write(data) }

func (w *wire) Read(into []byte) (int, error) {
	select {
	case received := <-w.data:
		return copy(into, received), nil
	case <-w.closed:
		return 0, net.ErrClosed
	}
}

func (w *wire) Close() error {
	close(w.closed)
	return nil
}

// sent returns the types of the written frames, and fails the test if the data is not a sequence of frames.
func (w *wire) sent(t *testing.T) (kinds []http2.FrameType) {
	t.Helper()
	if preface := w.Next(len(http2.ClientPreface)); string(preface) != http2.ClientPreface {
		t.Fatalf("the data begins with %q instead of the preface", preface)
	}
	framer := http2.NewFramer(nil, &w.Buffer)
	for w.Len() > 0 {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, frame.Header().Type)
	}
	return kinds
}

func TestPingIsInsertedBetweenFrames(t *testing.T) {
	var frames bytes.Buffer
	frames.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&frames, nil)
	_ = framer.WriteSettings()
	_ = framer.WriteData(1, false, make([]byte, 300))
	_ = framer.WriteData(1, true, nil)
	all := frames.Bytes()
	for size := 1; size <= len(all); size++ {
		for asked := 0; asked <= len(all); asked += 7 {
			under := newWire()
			conn := newConnection(under)
			written := 0
			for piece := range slices.Chunk(all, size) {
				if written <= asked && asked < written+len(piece) {
					conn.ping()
				}
				if _, err := conn.Write(piece); err != nil {
					t.Fatal(err)
				}
				written += len(piece)
			}
			if asked >= written {
				conn.ping()
			}
			kinds := under.sent(t)
			pings := len(slices.DeleteFunc(slices.Clone(kinds), func(kind http2.FrameType) bool { return kind != http2.FramePing }))
			others := slices.DeleteFunc(kinds, func(kind http2.FrameType) bool { return kind == http2.FramePing })
			if pings != 1 || !slices.Equal(others, []http2.FrameType{http2.FrameSettings, http2.FrameData, http2.FrameData}) {
				t.Fatalf("writes of %d bytes, ping at byte %d: %d pings among %v", size, asked, pings, others)
			}
		}
	}
}

func TestOnlyAnUnansweredPingClosesAConnection(t *testing.T) {
	for name, speaks := range map[string]bool{"responding": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, replica, under := NewPool(clock.System{}), &Replica{}, newWire()
				conn := newConnection(under)
				replica.setConnection(conn)
				go func() {
					for into := make([]byte, 100); ; {
						if _, err := conn.Read(into); err != nil {
							return
						}
					}
				}()
				attempt := &Attempt{sent: replica}
				for range 1_000 {
					// All calls are slow, so each one requests a liveness check.
					pool.CheckLiveness(attempt)
				}
				synctest.Wait()
				if !replica.pingUnanswered.Load() {
					t.Error("a replica with an unanswered ping gets calls")
				}
				time.Sleep(pingTimeout - 1)
				if speaks {
					under.data <- []byte("anything")
				}
				time.Sleep(time.Second)
				select {
				case <-under.closed:
					if speaks || !replica.pingUnanswered.Load() {
						t.Error("a responding connection was closed, or a replica without a connection gets calls")
					}
					replica.setConnection(newConnection(newWire()))
				default:
					if !speaks {
						t.Error("the silent connection was not closed")
					}
					_ = under.Close()
				}
				if replica.pingUnanswered.Load() {
					t.Error("the replica gets no calls after it responded or reconnected")
				}
			})
		})
	}
}
