package replicas

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// prefaceLength is the length of the client connection preface, "PRI * HTTP/2.0 …" (RFC 9113, 3.4).
	prefaceLength = 24
	// headerLength is the length of a frame header (RFC 9113, 4.1).
	headerLength = 9
)

// pingFrame is a PING frame (RFC 9113, 6.7). gRPC ignores acknowledgements of pings that it did not send.
var pingFrame = []byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 't', 'e', 'n', 'a', 'n', 't', 'a', 'u'}

// connection is an HTTP/2 connection that can be checked with a PING at any time.
//
// An RPC is not suitable as a check: it waits behind the requests that the server is already processing, needs a token,
// and passes interceptors. gRPC itself sends pings only at intervals. Therefore this type tracks the frame boundaries
// of what gRPC writes, and inserts a PING between two frames.
type connection struct {
	net.Conn
	// received is closed by the next read that returns data; nil if nothing waits for it.
	received atomic.Pointer[chan struct{}]

	mu sync.Mutex
	// remaining is the number of bytes to come of the preface, or of the payload of the current frame.
	remaining int
	// header holds the bytes of the next frame header that were written so far.
	header []byte
	// pingDue means that a PING is sent at the next frame boundary.
	pingDue bool
}

func newConnection(conn net.Conn) *connection {
	return &connection{Conn: conn, remaining: prefaceLength, header: make([]byte, 0, headerLength)}
}

// Read signals received data.
func (c *connection) Read(into []byte) (int, error) {
	read, err := c.Conn.Read(into)
	if read > 0 && c.received.Load() != nil {
		if received := c.received.Swap(nil); received != nil {
			close(*received)
		}
	}
	return read, err
}

// nextRead returns a channel that is closed when data is received from now on. Only one caller at a time may wait.
func (c *connection) nextRead() <-chan struct{} {
	received := make(chan struct{})
	c.received.Store(&received)
	return received
}

// Write tracks the frame boundaries, and inserts a pending PING.
func (c *connection) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written, err := c.Conn.Write(data)
	c.trackFrames(data[:written])
	if err == nil && c.pingDue && c.atFrameBoundary() {
		err = c.writePing()
	}
	return written, err
}

// ping sends a PING, now or at the end of the frame that is being written. It blocks while the peer does not read.
func (c *connection) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.atFrameBoundary() {
		c.pingDue = true
		return
	}
	// The error is ignored: without a PING the liveness check times out.
	_ = c.writePing()
}

func (c *connection) writePing() error {
	c.pingDue = false
	_, err := c.Conn.Write(pingFrame)
	return err
}

func (c *connection) atFrameBoundary() bool { return c.remaining == 0 && len(c.header) == 0 }

func (c *connection) trackFrames(data []byte) {
	for len(data) > 0 {
		if c.remaining > 0 {
			skipped := min(c.remaining, len(data))
			c.remaining, data = c.remaining-skipped, data[skipped:]
			continue
		}
		taken := min(headerLength-len(c.header), len(data))
		c.header, data = append(c.header, data[:taken]...), data[taken:]
		if len(c.header) == headerLength {
			c.remaining = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
			c.header = c.header[:0]
		}
	}
}
