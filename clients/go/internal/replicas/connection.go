package replicas

import (
	"context"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/credentials"
)

// connection counts what is heard on it. It is the raw connection, below TLS.
type connection struct {
	net.Conn
	// heard counts the reads that brought something.
	heard atomic.Uint64
}

// Read notes a sign of life.
func (c *connection) Read(into []byte) (int, error) {
	read, err := c.Conn.Read(into)
	if read > 0 {
		c.heard.Add(1)
	}
	return read, err
}

type replicaKey struct{}

func (r *Replica) attributes() *attributes.Attributes { return attributes.New(replicaKey{}, r) }

func replicaOf(held *attributes.Attributes) *Replica {
	replica, _ := held.Value(replicaKey{}).(*Replica)
	return replica
}

// Credentials are other credentials that tell each replica of its connections.
type Credentials struct {
	credentials.TransportCredentials
	// ServerName is the name that all certificates must be for; empty: each the host of its endpoint.
	ServerName string
}

// ClientHandshake is where a connection and the replica that it leads to are both known.
func (c Credentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	made := &connection{Conn: raw}
	if replica := replicaOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes); replica != nil {
		replica.connected(made)
	}
	if c.ServerName != "" {
		// gRPC would use the authority of the endpoint even if the TLS configuration names another one.
		authority = c.ServerName
	}
	return c.TransportCredentials.ClientHandshake(ctx, authority, made)
}

// Clone is a copy.
func (c Credentials) Clone() credentials.TransportCredentials {
	return Credentials{c.TransportCredentials.Clone(), c.ServerName}
}
