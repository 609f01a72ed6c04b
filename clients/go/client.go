package tenantauth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Client asks tenant-auth. It may be used by any number of goroutines; one is enough for a process.
type Client struct {
	options options
	conn    *grpc.ClientConn
	budget  *retry.Budget

	validation tenantauthv1.ValidationServiceClient
	sessions   tenantauthv1.SessionServiceClient
	usage      tenantauthv1.UsageServiceClient

	hasher *near.Hasher
	// near is nil when nothing is kept.
	near *near.Cache[*SessionValidation]

	stop       context.CancelFunc
	background sync.WaitGroup
}

// New makes a client for "host:port", or for several separated by commas. Names are resolved by DNS; all addresses are
// used in turn. https://host:port is TLS; anything else is plaintext unless [WithTLS] is given.
//
// It connects when it is first used, and again whenever a connection is lost.
func New(endpoints string, opts ...Option) (*Client, error) {
	settings := defaults()
	for _, option := range opts {
		option(&settings)
	}
	if err := settings.check(); err != nil {
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	conn, err := dial(endpoints, &settings)
	if err != nil {
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	client := &Client{
		options:    settings,
		conn:       conn,
		budget:     retry.NewBudget(),
		validation: tenantauthv1.NewValidationServiceClient(conn),
		sessions:   tenantauthv1.NewSessionServiceClient(conn),
		usage:      tenantauthv1.NewUsageServiceClient(conn),
		hasher:     near.NewHasher(),
		stop:       stop,
	}
	if settings.nearEntries > 0 {
		client.near = near.New[*SessionValidation](settings.clock, near.Config{
			Entries:    settings.nearEntries,
			WatchedFor: settings.watchedFor,
			Patience:   settings.timeout,
		})
		if settings.watch {
			client.background.Go(func() { client.watch(ctx) })
		}
	}
	return client, nil
}

func (o *options) check() error {
	switch {
	case o.timeout <= 0:
		return errors.New("the timeout must be positive")
	case o.attempts < 1:
		return errors.New("the attempts must be 1 or more")
	case o.nearEntries < 0:
		return errors.New("the entries of the near-cache must not be negative")
	case o.watchedFor < 0:
		return errors.New("the time that watched answers are reused must not be negative")
	}
	return nil
}

// Close ends the connections, and everything that uses them. Close recorders first.
func (c *Client) Close() error {
	c.stop()
	err := c.conn.Close()
	c.background.Wait()
	return err
}

// Raw is the connection, for the generated clients of the package tenantauthv1, such as NewAdminServiceClient. Calls
// made with them have no default deadline and are not retried.
func (c *Client) Raw() grpc.ClientConnInterface { return c.conn }

// ServerInfo describes the process that answers.
type ServerInfo struct {
	// Version is the semantic version of the service.
	Version string
	// Commit is the Git commit it was built from; empty when unknown.
	Commit string
	// Dirty tells whether tracked files differed from that commit.
	Dirty bool
	// Branch is the Git branch it was built from; empty when unknown.
	Branch string
	// Database is what it decides against.
	Database tenantauthv1.DatabaseKind
	// Revision is the highest change-log sequence number it has seen; 0 before its first read.
	Revision int64
	// SchemaVersion is the schema version it knows.
	SchemaVersion int32
	// Uptime is the time since it started to serve.
	Uptime time.Duration
	// Now is its own clock.
	Now time.Time
}

// ServerInfo asks a replica for its description.
func (c *Client) ServerInfo(ctx context.Context) (ServerInfo, error) {
	call := tenantauthv1.NewInfoServiceClient(c.conn).GetServerInfo
	reply, err := invoke(ctx, c, call, &tenantauthv1.GetServerInfoRequest{})
	if err != nil {
		return ServerInfo{}, err
	}
	uptime, err := span(reply.GetUptime())
	if err != nil {
		return ServerInfo{}, err
	}
	now, err := moment(reply.GetNow())
	if err != nil {
		return ServerInfo{}, err
	}
	return ServerInfo{
		Version:       reply.GetVersion(),
		Commit:        reply.GetCommit(),
		Dirty:         reply.GetDirty(),
		Branch:        reply.GetBranch(),
		Database:      reply.GetDatabaseKind(),
		Revision:      reply.GetRevision(),
		SchemaVersion: reply.GetSchemaVersion(),
		Uptime:        uptime,
		Now:           now,
	}, nil
}
