package tenantauth

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/retry"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Client asks tenant-auth. It may be used by any number of goroutines; one is enough for a process.
type Client struct {
	options *options
	conn    *grpc.ClientConn
	pool    *replicas.Pool
	budget  *retry.Budget
	gate    *gate

	validation tenantauthv1.ValidationServiceClient
	sessions   tenantauthv1.SessionServiceClient
	usage      tenantauthv1.UsageServiceClient

	hasher *near.Hasher
	// near is nil when nothing is kept.
	near *near.Cache[*SessionValidation]

	stop       context.CancelFunc
	background sync.WaitGroup

	closed sync.Once
	// closing is what went wrong.
	closing error

	mu sync.Mutex
	// recorders are those that are not closed.
	recorders map[*Recorder]struct{}
}

// Endpoints is one text, which may hold several endpoints separated by commas, or a list of them.
type Endpoints interface{ ~string | ~[]string }

// New makes a client for host:port, or for several. dns:///host:port means the same, http:// also, and https:// is TLS.
// Names are resolved by DNS; all addresses of all names are used in turn. Without https:// and an option for TLS,
// everything travels in plaintext.
//
// It connects at once, and again whenever a connection is lost. What can never work is an error here.
func New[E Endpoints](endpoints E, opts ...Option) (*Client, error) {
	return newClient(flatten(endpoints), opts)
}

func flatten[E Endpoints](endpoints E) []string {
	value := reflect.ValueOf(endpoints)
	if value.Kind() == reflect.String {
		return []string{value.String()}
	}
	return value.Convert(reflect.TypeFor[[]string]()).Interface().([]string)
}

func newClient(endpoints []string, opts []Option) (*Client, error) {
	settings, err := apply(opts)
	if err != nil {
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	pool := replicas.NewPool(settings.clock)
	conn, err := dial(endpoints, settings, pool)
	if err != nil {
		return nil, fmt.Errorf("tenant-auth: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	client := &Client{
		options:    settings,
		conn:       conn,
		pool:       pool,
		budget:     retry.NewBudget(),
		gate:       newGate(),
		validation: tenantauthv1.NewValidationServiceClient(conn),
		sessions:   tenantauthv1.NewSessionServiceClient(conn),
		usage:      tenantauthv1.NewUsageServiceClient(conn),
		hasher:     near.NewHasher(),
		stop:       stop,
		recorders:  map[*Recorder]struct{}{},
	}
	conn.Connect()
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

// closingFlush is how long Close sends what recorders hold that were not closed.
const closingFlush = 5 * time.Second

// Close refuses new calls with [ErrClosed], lets those under way finish, which their deadlines bound, and ends the
// connections. Recorders that were left open are closed; what they cannot send within 5 s is lost, and logged by its number.
// Closing twice is no error.
func (c *Client) Close() error {
	c.gate.close()
	c.closed.Do(func() {
		c.closeRecorders()
		c.gate.wait()
		c.stop()
		c.background.Wait()
		c.closing = c.conn.Close()
	})
	return c.closing
}

func (c *Client) closeRecorders() {
	c.mu.Lock()
	open := slices.Collect(maps.Keys(c.recorders))
	c.mu.Unlock()
	if len(open) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer c.options.clock.AfterFunc(closingFlush, cancel)()
	for _, recorder := range open {
		lost := 0
		for _, batch := range recorder.Close(ctx) {
			lost += len(batch.Events)
		}
		if lost > 0 {
			c.options.logger.Error("tenant-auth: the client was closed before its usage recorder; events are lost", "events", lost)
		}
	}
}

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
	if err := c.gate.enter(); err != nil {
		return ServerInfo{}, err
	}
	defer c.gate.leave()
	reply, err := invoke(ctx, c, question[*tenantauthv1.GetServerInfoRequest, *tenantauthv1.GetServerInfoResponse]{
		call: tenantauthv1.NewInfoServiceClient(c.conn).GetServerInfo, request: &tenantauthv1.GetServerInfoRequest{}, reads: true,
	})
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
