package tenantauth

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Session is a session, for example of an MCP server or a CLI, that is bound to a tenant.
type Session struct {
	// ID is the session id, as used by the caller's protocol.
	ID string
	// TenantID is the id of the tenant that the session is bound to.
	TenantID string
	// KeyID is the public id of the key that opened the session.
	KeyID string
	// CreatedAt is the time at which the session was bound.
	CreatedAt time.Time
	// ExpiresAt is the time at which the session expires.
	ExpiresAt time.Time
	// Sliding sessions expire a fixed time after their last validation, other sessions a fixed time after they were
	// bound.
	Sliding bool
	// Attributes are the attributes that were attached when the session was bound.
	Attributes map[string]string
}

// Bind describes a session to bind.
type Bind struct {
	// SessionID is the session id, as used by the caller's protocol: 1 to 1,024 visible ASCII characters.
	SessionID string
	// Key is the key that the customer presented.
	Key Key
	// TTL is the lifetime of the session.
	TTL time.Duration
	// Sliding makes TTL count from the last validation instead of from the binding.
	Sliding bool
	// Attributes are returned with each validation: at most 16, and 2 KiB in total.
	Attributes map[string]string
}

// Binding is the result of binding a session.
type Binding struct {
	// Verdict is [Valid] if the session is bound, [TenantMismatch] if the session belongs to another tenant, otherwise
	// the verdict on the key.
	Verdict Verdict
	// Session is the session, set if the verdict is [Valid].
	Session Session
	// AlreadyBound reports whether the session was already bound before this call.
	AlreadyBound bool
}

// BindSession binds a session to the tenant of a key. Repeating the call for the same tenant changes nothing. A key that
// may be used from certain networks only needs a context with the client address: see [ContextWithClientAddress].
func (c *Client) BindSession(ctx context.Context, bind Bind) (Binding, error) {
	if err := c.gate.enter(); err != nil {
		return Binding{}, err
	}
	defer c.gate.leave()
	if err := checkSessionID(bind.SessionID); err != nil {
		return Binding{}, err
	}
	from := clientAddressOf(ctx)
	if err := from.err(); err != nil {
		return Binding{}, err
	}
	if isUnsendableKey(bind.Key) {
		return Binding{Verdict: Malformed}, nil
	}
	// The cached answers about the session may be outdated even if the response is lost.
	defer c.invalidateSession(bind.SessionID)
	expiry := tenantauthv1.SessionExpiry_SESSION_EXPIRY_FIXED
	if bind.Sliding {
		expiry = tenantauthv1.SessionExpiry_SESSION_EXPIRY_SLIDING
	}
	request := &tenantauthv1.BindSessionRequest{
		SessionId:  bind.SessionID,
		Key:        string(bind.Key),
		Ttl:        durationpb.New(bind.TTL),
		Expiry:     expiry,
		Attributes: bind.Attributes,

		ClientAddress: from.wire(),
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.BindSessionRequest, *tenantauthv1.BindSessionResponse]{
		call: c.sessions.BindSession, request: request, secrets: []string{string(bind.Key)},
	})
	if err != nil {
		return Binding{}, err
	}
	made := Binding{Verdict: Verdict(reply.GetVerdict()), AlreadyBound: reply.GetAlreadyBound()}
	if reply.GetSession() != nil {
		made.Session, err = sessionFromWire(reply.GetSession())
	}
	return made, err
}

// UnbindSession ends a session of a tenant. wasBound reports whether the session was bound before this call.
func (c *Client) UnbindSession(ctx context.Context, sessionID, tenantID string) (wasBound bool, err error) {
	if err := c.gate.enter(); err != nil {
		return false, err
	}
	defer c.gate.leave()
	if err := checkSessionID(sessionID); err != nil {
		return false, err
	}
	defer c.invalidateSession(sessionID)
	request := &tenantauthv1.UnbindSessionRequest{SessionId: sessionID, TenantId: tenantID}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.UnbindSessionRequest, *tenantauthv1.UnbindSessionResponse]{
		call: c.sessions.UnbindSession, request: request,
	})
	return reply.GetWasBound(), err
}

// ListSessions iterates over the sessions of a tenant, newest first, and loads them page by page. It ends after the
// first error.
func (c *Client) ListSessions(ctx context.Context, tenantID string) iter.Seq2[Session, error] {
	return pages(func(token string) ([]*tenantauthv1.Session, string, error) {
		if err := c.gate.enter(); err != nil {
			return nil, "", err
		}
		defer c.gate.leave()
		request := &tenantauthv1.ListSessionsRequest{TenantId: tenantID, PageToken: token}
		reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.ListSessionsRequest, *tenantauthv1.ListSessionsResponse]{
			call: c.sessions.ListSessions, request: request, readOnly: true,
		})
		return reply.GetSessions(), reply.GetNextPageToken(), err
	}, sessionFromWire)
}

func (c *Client) invalidateSession(sessionID string) {
	c.invalidateOwn(c.sessionSubject(sessionID))
}

func sessionFromWire(message *tenantauthv1.Session) (Session, error) {
	createdAt, err := parseTime(message.GetCreatedAt())
	if err != nil {
		return Session{}, err
	}
	expiresAt, err := parseTime(message.GetExpiresAt())
	if err != nil {
		return Session{}, err
	}
	return Session{
		ID:         message.GetSessionId(),
		TenantID:   message.GetTenantId(),
		KeyID:      message.GetKeyId(),
		CreatedAt:  createdAt,
		ExpiresAt:  expiresAt,
		Sliding:    message.GetExpiry() == tenantauthv1.SessionExpiry_SESSION_EXPIRY_SLIDING,
		Attributes: message.GetAttributes(),
	}, nil
}

// pages iterates over a paged list. It loads each page when the previous one is used up.
func pages[M, T any](fetch func(token string) ([]M, string, error), read func(M) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for token := ""; ; {
			messages, next, err := fetch(token)
			if err != nil {
				yield(none, err)
				return
			}
			for _, message := range messages {
				item, err := read(message)
				if !yield(item, err) || err != nil {
					return
				}
			}
			if next == "" {
				return
			}
			if next == token {
				yield(none, invalidReply("the response repeats its own page token as the next page"))
				return
			}
			token = next
		}
	}
}
