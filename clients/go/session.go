package tenantauth

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// Session is a session of an MCP server, a CLI or the like, bound to a tenant.
type Session struct {
	// ID is what the caller's protocol gave it.
	ID string
	// TenantID is the tenant it belongs to.
	TenantID string
	// KeyID is the public id of the key that opened it.
	KeyID string
	// CreatedAt is when it was bound.
	CreatedAt time.Time
	// ExpiresAt is when it ends by itself.
	ExpiresAt time.Time
	// Sliding sessions end after they were last validated, others after they were bound.
	Sliding bool
	// Attributes are what was attached when it was bound.
	Attributes map[string]string
}

// Bind is a session to bind.
type Bind struct {
	// SessionID is what the caller's protocol gave it; 1 to 128 visible ASCII characters.
	SessionID string
	// Key is what the customer presented.
	Key Key
	// TTL is how long the session lives.
	TTL time.Duration
	// Sliding counts TTL from the last validation instead of from the binding.
	Sliding bool
	// Attributes are handed back at validation; at most 16 and 2 KiB together.
	Attributes map[string]string
}

// Binding is the outcome of a binding.
type Binding struct {
	// Verdict is [Valid] when bound, [TenantMismatch] when another tenant holds the session, else that on the key.
	Verdict Verdict
	// Session is the binding, when the verdict is [Valid].
	Session Session
	// AlreadyBound tells whether it was bound before this call.
	AlreadyBound bool
}

// BindSession binds a session to the tenant of a key. Repeating it for the same tenant changes nothing.
func (c *Client) BindSession(ctx context.Context, bind Bind) (Binding, error) {
	if err := c.gate.enter(); err != nil {
		return Binding{}, err
	}
	defer c.gate.leave()
	if err := checkSessionID(bind.SessionID); err != nil {
		return Binding{}, err
	}
	if noKey(bind.Key) {
		return Binding{Verdict: Malformed}, nil
	}
	// Even if the answer got lost: what was known of the session may be wrong now.
	defer c.forgetSession(bind.SessionID)
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
	}
	reply, err := invoke(ctx, c, question[*tenantauthv1.BindSessionRequest, *tenantauthv1.BindSessionResponse]{
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

// UnbindSession ends a session of a tenant, and tells whether it was bound until now.
func (c *Client) UnbindSession(ctx context.Context, sessionID, tenantID string) (wasBound bool, err error) {
	if err := c.gate.enter(); err != nil {
		return false, err
	}
	defer c.gate.leave()
	if err := checkSessionID(sessionID); err != nil {
		return false, err
	}
	defer c.forgetSession(sessionID)
	request := &tenantauthv1.UnbindSessionRequest{SessionId: sessionID, TenantId: tenantID}
	reply, err := invoke(ctx, c, question[*tenantauthv1.UnbindSessionRequest, *tenantauthv1.UnbindSessionResponse]{
		call: c.sessions.UnbindSession, request: request,
	})
	return reply.GetWasBound(), err
}

// ListSessions goes through a tenant's sessions, newest first, a page at a time. It ends after the first error.
func (c *Client) ListSessions(ctx context.Context, tenantID string) iter.Seq2[Session, error] {
	return pages(func(token string) ([]*tenantauthv1.Session, string, error) {
		if err := c.gate.enter(); err != nil {
			return nil, "", err
		}
		defer c.gate.leave()
		request := &tenantauthv1.ListSessionsRequest{TenantId: tenantID, PageToken: token}
		reply, err := invoke(ctx, c, question[*tenantauthv1.ListSessionsRequest, *tenantauthv1.ListSessionsResponse]{
			call: c.sessions.ListSessions, request: request, reads: true,
		})
		return reply.GetSessions(), reply.GetNextPageToken(), err
	}, sessionFromWire)
}

func (c *Client) forgetSession(sessionID string) {
	if c.near != nil {
		c.near.Forget(c.sessionSubject(sessionID))
	}
}

func sessionFromWire(message *tenantauthv1.Session) (Session, error) {
	createdAt, err := moment(message.GetCreatedAt())
	if err != nil {
		return Session{}, err
	}
	expiresAt, err := moment(message.GetExpiresAt())
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

// pages goes through a list, fetching each page when the one before is used up.
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
				yield(none, broken("the reply names itself as the next page"))
				return
			}
			token = next
		}
	}
}
