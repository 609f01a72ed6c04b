package tenantauth

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
)

// Raw is the connection, for the generated clients of the package tenantauthv1, such as NewAdminServiceClient.
//
// Unary calls have the client's timeout if their context has no deadline. Nothing is retried, and errors are those of
// gRPC, but for [ErrClosed]. What a call may have changed is forgotten by the near-cache, whether it fails or not.
func (c *Client) Raw() grpc.ClientConnInterface { return rawConn{c} }

type rawConn struct{ client *Client }

// Invoke makes a unary call.
func (r rawConn) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	c := r.client
	if err := c.gate.enter(); err != nil {
		return err
	}
	defer c.gate.leave()
	defer c.changed(method, request)
	ctx, cancel := c.limit(ctx)
	defer cancel()
	ctx, attempt := replicas.Begin(ctx)
	defer c.whenLate(attempt, c.hedgeAfter(ctx), func() { c.pool.Doubt(attempt) })()
	return c.conn.Invoke(ctx, method, request, reply, opts...)
}

// NewStream opens a stream. Closing the client ends it.
func (r rawConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := r.client.gate.enter(); err != nil {
		return nil, err
	}
	defer r.client.gate.leave()
	return r.client.conn.NewStream(ctx, desc, method, opts...)
}

// unchanging are the calls after which all that is known is as true as before.
var unchanging = map[string]bool{
	"/tenantauth.v1.ValidationService/ValidateKey":       true,
	"/tenantauth.v1.ValidationService/BatchValidateKeys": true,
	"/tenantauth.v1.ValidationService/ValidateSession":   true,
	"/tenantauth.v1.SessionService/ListSessions":         true,
	"/tenantauth.v1.UsageService/RecordUsage":            true,
	"/tenantauth.v1.UsageService/QueryUsage":             true,
	"/tenantauth.v1.AdminService/GetTenant":              true,
	"/tenantauth.v1.AdminService/ListTenants":            true,
	"/tenantauth.v1.AdminService/GetKey":                 true,
	"/tenantauth.v1.AdminService/InspectKey":             true,
	"/tenantauth.v1.AdminService/ListKeys":               true,
	"/tenantauth.v1.AdminService/ListAuditEvents":        true,
	"/tenantauth.v1.AdminService/GetDatabaseState":       true,
	"/tenantauth.v1.AdminService/GetOutageGrace":         true,
	"/tenantauth.v1.InfoService/GetServerInfo":           true,
	"/grpc.health.v1.Health/Check":                       true,
}

// changed forgets what a call may have changed: what it names, or everything if it names nothing.
func (c *Client) changed(method string, request any) {
	if c.near == nil || unchanging[method] {
		return
	}
	var subjects []near.Subject
	if message, ok := request.(proto.Message); ok {
		if id := textField(message, "session_id"); id != "" {
			subjects = append(subjects, c.sessionSubject(id))
		}
		if id := textField(message, "key_id"); id != "" {
			subjects = append(subjects, near.Subject{Kind: near.Key, ID: id})
		}
		// A key or a session that is named with its tenant is the narrower subject.
		if id := textField(message, "tenant_id"); id != "" && len(subjects) == 0 {
			subjects = append(subjects, near.Subject{Kind: near.Tenant, ID: id})
		}
	}
	if len(subjects) == 0 {
		c.near.ForgetAll()
	}
	for _, subject := range subjects {
		c.near.Forget(subject)
	}
}

func textField(message proto.Message, name protoreflect.Name) string {
	reflected := message.ProtoReflect()
	field := reflected.Descriptor().Fields().ByName(name)
	if field == nil || field.Kind() != protoreflect.StringKind || field.IsList() {
		return ""
	}
	return reflected.Get(field).String()
}
