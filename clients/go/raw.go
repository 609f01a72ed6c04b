package tenantauth

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/replicas"
)

// Raw returns the connection, for the generated clients of the package tenantauthv1, such as NewAdminServiceClient.
//
// Unary calls use the client's timeout if their context has no deadline. Calls are not retried, and errors are gRPC
// errors, except for [ErrClosed]. After each call that may have changed something, the near cache drops the affected
// answers, even if the call failed.
func (c *Client) Raw() grpc.ClientConnInterface { return rawConn{c} }

type rawConn struct{ client *Client }

// Invoke makes a unary call.
func (r rawConn) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	c := r.client
	if err := c.gate.enter(); err != nil {
		return err
	}
	defer c.gate.leave()
	defer c.invalidateChanged(method, request)
	ctx, cancel := c.withTimeout(ctx)
	defer cancel()
	ctx, attempt := replicas.NewAttempt(ctx)
	defer c.onLate(attempt, c.hedgeAfter(ctx), func() { c.pool.CheckLiveness(attempt) })()
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

// readOnlyMethods are the methods after which all cached answers stay valid. Limits are not part of an answer.
var readOnlyMethods = map[string]bool{
	"/tenantauth.v1.ValidationService/ValidateKey":       true,
	"/tenantauth.v1.ValidationService/BatchValidateKeys": true,
	"/tenantauth.v1.ValidationService/ValidateSession":   true,
	"/tenantauth.v1.SessionService/ListSessions":         true,
	"/tenantauth.v1.UsageService/RecordUsage":            true,
	"/tenantauth.v1.UsageService/QueryUsage":             true,
	"/tenantauth.v1.LimitService/Consume":                true,
	"/tenantauth.v1.LimitService/BatchConsume":           true,
	"/tenantauth.v1.LimitService/Reserve":                true,
	"/tenantauth.v1.LimitService/Settle":                 true,
	"/tenantauth.v1.LimitService/Cancel":                 true,
	"/tenantauth.v1.LimitService/GetLimitState":          true,
	"/tenantauth.v1.AdminService/SetLimit":               true,
	"/tenantauth.v1.AdminService/GetLimit":               true,
	"/tenantauth.v1.AdminService/ListLimits":             true,
	"/tenantauth.v1.AdminService/DeleteLimit":            true,
	"/tenantauth.v1.AdminService/AddCredits":             true,
	"/tenantauth.v1.AdminService/GetTenant":              true,
	"/tenantauth.v1.AdminService/ListTenants":            true,
	"/tenantauth.v1.AdminService/GetKey":                 true,
	"/tenantauth.v1.AdminService/InspectKey":             true,
	"/tenantauth.v1.AdminService/ExplainKey":             true,
	"/tenantauth.v1.AdminService/ListKeys":               true,
	"/tenantauth.v1.AdminService/ListAuditEvents":        true,
	"/tenantauth.v1.AdminService/GetDatabaseState":       true,
	"/tenantauth.v1.AdminService/GetOutageGrace":         true,
	"/tenantauth.v1.InfoService/GetServerInfo":           true,
	"/tenantauth.v1.InfoService/WaitForRevision":         true,
	"/tenantauth.v1.InfoService/GetPrincipalKeys":        true,
	"/grpc.health.v1.Health/Check":                       true,
}

// invalidateChanged drops the answers that a call may have changed: those about the subjects named in the request, or
// all answers if it names none.
func (c *Client) invalidateChanged(method string, request any) {
	if readOnlyMethods[method] {
		return
	}
	var subjects []near.Subject
	if message, ok := request.(proto.Message); ok {
		if id := stringField(message, "session_id"); id != "" {
			subjects = append(subjects, c.sessionSubject(id))
		}
		if id := stringField(message, "key_id"); id != "" {
			subjects = append(subjects, near.Subject{Kind: near.Key, ID: id})
		}
		// The tenant is ignored if the request also names a key or a session, because that is the narrower subject.
		if id := stringField(message, "tenant_id"); id != "" && len(subjects) == 0 {
			subjects = append(subjects, near.Subject{Kind: near.Tenant, ID: id})
		}
	}
	if len(subjects) == 0 && c.cache != nil {
		c.cache.Clear()
	}
	c.invalidateOwn(subjects...)
}

// invalidateOwn drops the answers about subjects that this client has tried to change, and validates their guards again.
func (c *Client) invalidateOwn(subjects ...near.Subject) {
	if c.cache != nil {
		for _, subject := range subjects {
			c.cache.InvalidateLocal(subject)
		}
	}
	c.guards.onOwnChange(subjects...)
}

func stringField(message proto.Message, name protoreflect.Name) string {
	reflected := message.ProtoReflect()
	field := reflected.Descriptor().Fields().ByName(name)
	if field == nil || field.Kind() != protoreflect.StringKind || field.IsList() {
		return ""
	}
	return reflected.Get(field).String()
}
