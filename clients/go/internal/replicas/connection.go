package replicas

import (
	"net"
	"sync"
	"sync/atomic"
)

const (
	// prefaceLength is that of "PRI * HTTP/2.0 …", with which a client begins (RFC 9113, 3.4).
	prefaceLength = 24
	// headerLength is that of the header of each frame (RFC 9113, 4.1).
	headerLength = 9
)

// pingFrame asks for an acknowledgement (RFC 9113, 6.7). gRPC takes no notice of the acknowledgement of another's ping.
var pingFrame = []byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 't', 'e', 'n', 'a', 'n', 't', 'a', 'u'}

// connection is an HTTP/2 connection that can be asked for a sign of life at any moment.
//
// A call would not do: it waits behind those that a server has taken on already, needs a token, and passes interceptors.
// gRPC itself sends pings only by the clock. So this keeps to the borders of the frames that gRPC writes, and puts a ping
// between two of them.
type connection struct {
	net.Conn
	// word is closed by the next read that brings something; nil when nobody waits for that.
	word atomic.Pointer[chan struct{}]

	mu sync.Mutex
	// left is how much is to come of the preface, or of a frame's payload.
	left int
	// header is what has come of the header of the next frame.
	header []byte
	// due tells that a ping waits for the end of a frame.
	due bool
}

func newConnection(conn net.Conn) *connection {
	return &connection{Conn: conn, left: prefaceLength, header: make([]byte, 0, headerLength)}
}

// Read notes a sign of life.
func (c *connection) Read(into []byte) (int, error) {
	read, err := c.Conn.Read(into)
	if read > 0 && c.word.Load() != nil {
		if word := c.word.Swap(nil); word != nil {
			close(*word)
		}
	}
	return read, err
}

// nextWord is closed when something is heard from now on. One at a time may wait for it.
func (c *connection) nextWord() <-chan struct{} {
	word := make(chan struct{})
	c.word.Store(&word)
	return word
}

// Write follows the frames.
func (c *connection) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written, err := c.Conn.Write(data)
	c.follow(data[:written])
	if err == nil && c.due && c.atBorder() {
		err = c.writePing()
	}
	return written, err
}

// ping asks for a sign of life, now or at the end of the frame that is being written. It may wait for as long as the peer
// takes nothing.
func (c *connection) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.atBorder() {
		c.due = true
		return
	}
	// A connection that cannot be written to gives no sign of life.
	_ = c.writePing()
}

func (c *connection) writePing() error {
	c.due = false
	_, err := c.Conn.Write(pingFrame)
	return err
}

func (c *connection) atBorder() bool { return c.left == 0 && len(c.header) == 0 }

func (c *connection) follow(data []byte) {
	for len(data) > 0 {
		if c.left > 0 {
			skipped := min(c.left, len(data))
			c.left, data = c.left-skipped, data[skipped:]
			continue
		}
		taken := min(headerLength-len(c.header), len(data))
		c.header, data = append(c.header, data[:taken]...), data[taken:]
		if len(c.header) == headerLength {
			c.left = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
			c.header = c.header[:0]
		}
	}
}
