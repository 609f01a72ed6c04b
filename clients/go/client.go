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

// Client is a tenant-auth client. It is safe for concurrent use; one per process is enough.
type Client struct {
	options *options
	conn    *grpc.ClientConn
	pool    *replicas.Pool
	budget  *retry.Budget
	gate    *gate

	validation tenantauthv1.ValidationServiceClient
	sessions   tenantauthv1.SessionServiceClient
	usage      tenantauthv1.UsageServiceClient
	limits     tenantauthv1.LimitServiceClient

	hasher *near.Hasher
	// cache is nil when the near cache is off.
	cache *near.Cache[*SessionValidation]

	principalKeys principalKeys
	guards        *guardRegistry

	stop       context.CancelFunc
	background sync.WaitGroup

	closed sync.Once
	// closeErr is the error of closing the connections.
	closeErr error

	mu sync.Mutex
	// recorders are the recorders that are not closed yet.
	recorders map[*Recorder]struct{}
	// limiters are the local limiters that are not closed yet.
	limiters map[*LocalLimiter]struct{}
}

// Endpoints is a string, which may hold several endpoints separated by commas, or a list of strings.
type Endpoints interface{ ~string | ~[]string }

// New creates a client for one or several endpoints of the form host:port. The prefixes dns:/// and http:// are allowed
// and mean plaintext; https:// enables TLS. Names are resolved by DNS, and the client uses all addresses of all names
// in turn (round-robin). Without https:// and without a TLS option, all traffic is plaintext.
//
// The client connects immediately, and reconnects when a connection is lost. New returns an error if the configuration
// can never work.
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
		limits:     tenantauthv1.NewLimitServiceClient(conn),
		hasher:     near.NewHasher(),
		stop:       stop,
		recorders:  map[*Recorder]struct{}{},
		limiters:   map[*LocalLimiter]struct{}{},
	}
	client.guards = newGuardRegistry(client)
	conn.Connect()
	if settings.nearEntries > 0 {
		client.cache = near.New[*SessionValidation](settings.clock, near.Config{
			Entries:    settings.nearEntries,
			WatchedFor: settings.watchedFor,
			MinTimeout: settings.timeout,
		})
		if settings.watch {
			client.background.Go(func() { client.runWatch(ctx) })
		}
	}
	return client, nil
}

// closeFlushTimeout is how long Close sends the events of recorders, and settles the chunks of local limiters, that were
// not closed.
const closeFlushTimeout = 5 * time.Second

// Close rejects new calls with [ErrClosed], waits for calls in flight, whose deadlines bound the wait, and closes the
// connections. It ends all guarded streams, and closes recorders and local limiters that are still open. Events that they cannot
// send within 5 s are lost, and chunks that they cannot settle count as used; Close logs both. Closing a client twice is not an error.
func (c *Client) Close() error {
	c.gate.close()
	c.guards.close()
	c.closed.Do(func() {
		c.closeOwned()
		c.gate.wait()
		c.stop()
		c.background.Wait()
		c.closeErr = c.conn.Close()
	})
	return c.closeErr
}

// closeOwned closes the recorders and the local limiters that are still open.
func (c *Client) closeOwned() {
	c.mu.Lock()
	recorders, limiters := slices.Collect(maps.Keys(c.recorders)), slices.Collect(maps.Keys(c.limiters))
	c.mu.Unlock()
	if len(recorders)+len(limiters) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer c.options.clock.AfterFunc(closeFlushTimeout, cancel)()
	for _, recorder := range recorders {
		lost := 0
		for _, batch := range recorder.Close(ctx) {
			lost += len(batch.Events)
		}
		if lost > 0 {
			c.options.logger.Error("tenant-auth: client closed before its usage recorder; usage events lost", "events", lost)
		}
	}
	for _, limiter := range limiters {
		// It logs the chunks that it cannot settle.
		_ = limiter.Close(ctx)
	}
}

// ServerInfo describes the replica that responds.
type ServerInfo struct {
	// Version is the semantic version of the server.
	Version string
	// Commit is the Git commit of the build; empty if unknown.
	Commit string
	// Dirty reports whether tracked files differed from that commit at build time.
	Dirty bool
	// Branch is the Git branch of the build; empty if unknown.
	Branch string
	// Database is the kind of database that the replica uses.
	Database tenantauthv1.DatabaseKind
	// Revision is the highest change-log sequence number that the replica has read; 0 before its first read.
	Revision int64
	// SchemaVersion is the database schema version that the build supports.
	SchemaVersion int32
	// Uptime is the time since the replica started to serve.
	Uptime time.Duration
	// Now is the current time by the replica's clock.
	Now time.Time
}

// ServerInfo requests the description of a replica.
func (c *Client) ServerInfo(ctx context.Context) (ServerInfo, error) {
	if err := c.gate.enter(); err != nil {
		return ServerInfo{}, err
	}
	defer c.gate.leave()
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.GetServerInfoRequest, *tenantauthv1.GetServerInfoResponse]{
		call: tenantauthv1.NewInfoServiceClient(c.conn).GetServerInfo, request: &tenantauthv1.GetServerInfoRequest{}, readOnly: true,
	})
	if err != nil {
		return ServerInfo{}, err
	}
	uptime, err := parseDuration(reply.GetUptime())
	if err != nil {
		return ServerInfo{}, err
	}
	now, err := parseTime(reply.GetNow())
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
