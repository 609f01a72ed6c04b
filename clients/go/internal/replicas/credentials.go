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

// Credentials are other credentials that tell each replica of its connections.
type Credentials struct {
	credentials.TransportCredentials
	// ServerName is the name that all certificates must be for; empty: each the host of its endpoint.
	ServerName string
}

// ClientHandshake is where a connection and the replica that it leads to are both known.
func (c Credentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if c.ServerName != "" {
		// gRPC would use the authority of the endpoint even if the TLS configuration names another one.
		authority = c.ServerName
	}
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	made := newConnection(conn)
	if replica := replicaOf(credentials.ClientHandshakeInfoFromContext(ctx).Attributes); replica != nil {
		replica.connected(made)
	}
	return made, info, nil
}

// Clone is a copy.
func (c Credentials) Clone() credentials.TransportCredentials {
	return Credentials{c.TransportCredentials.Clone(), c.ServerName}
}
