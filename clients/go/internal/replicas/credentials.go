package replicas

import (
	"context"
	"net"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/credentials"
)

type replicaKey struct{}

func (r *Replica) attributes() *attributes.Attributes { return attributes.New(replicaKey{}, r) }

func replicaOf(held *attributes.Attributes) *Replica {
	replica, _ := held.Value(replicaKey{}).(*Replica)
	return replica
}

// Credentials wrap transport credentials and register each new connection with its replica.
type Credentials struct {
	credentials.TransportCredentials
	// ServerName is the name that all certificates must be valid for; if empty, the host of the endpoint.
	ServerName string
}

// ClientHandshake performs the handshake. It is the only place where both the connection and its replica are known.
func (c Credentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if c.ServerName != "" {
		// Without this, gRPC would verify the authority of the endpoint, even if the TLS configuration sets another
		// name.
		authority = c.ServerName
	}
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	made := newConnection(conn)
	if replica := replicaOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes); replica != nil {
		replica.setConnection(made)
	}
	return made, info, nil
}

// Clone returns a copy.
func (c Credentials) Clone() credentials.TransportCredentials {
	return Credentials{c.TransportCredentials.Clone(), c.ServerName}
}
