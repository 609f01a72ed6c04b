package tenantauth

import (
	"cmp"
	"context"
	"errors"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// LimitCredential is who takes something from its limits: a [KeyQuery] or a [SessionQuery].
type LimitCredential interface {
	// query returns the credential as a session query; without a session id for a key.
	query() SessionQuery
	// isSession reports whether it is a session.
	isSession() bool
}

// SessionQuery is a session to validate, with the scopes that the key that opened it must hold. Its limits are those of that
// key.
type SessionQuery struct {
	// SessionID is the session id, as used by the caller's protocol.
	SessionID string
	// Key is the key presented with the session. If it is not empty, it must belong to the tenant of the session.
	Key Key
	// Scopes are the scopes that the key that opened the session must hold, all of them.
	Scopes []string
	// ClientAddress is the network address of the customer, as for [ContextWithClientAddressText]. If it is empty, the
	// address of the context applies.
	ClientAddress string
}

func (q KeyQuery) query() SessionQuery {
	return SessionQuery{Key: q.Key, Scopes: q.Scopes, ClientAddress: q.ClientAddress}
}

func (KeyQuery) isSession() bool { return false }

func (q SessionQuery) query() SessionQuery { return q }

func (SessionQuery) isSession() bool { return true }

// limitCaller is a credential that can be sent.
type limitCaller struct {
	SessionQuery
	ofSession bool
	from      clientAddress
	// isMalformed is true for a text that is no key, without a call.
	isMalformed bool
}

func limitCallerOf(ctx context.Context, given LimitCredential) (limitCaller, error) {
	if given == nil {
		return limitCaller{}, invalidField("credential", "must be a KeyQuery or a SessionQuery")
	}
	made := limitCaller{SessionQuery: given.query(), ofSession: given.isSession(), from: clientAddressOf(ctx)}
	if made.ClientAddress != "" {
		made.from = fromText(made.ClientAddress)
	}
	path, err := "credential.key.", made.from.err()
	if made.ofSession {
		path, err = "credential.session.", cmp.Or(err, checkSessionID(made.SessionID))
	}
	if invalid, ok := errors.AsType[*Error](err); ok {
		return limitCaller{}, invalidField(path+invalid.Violations[0].Field, invalid.Violations[0].Description)
	}
	made.isMalformed = isUnsendableKey(made.Key)
	return made, nil
}

func (l limitCaller) wire() *tenantauthv1.LimitCredential {
	if l.ofSession {
		return &tenantauthv1.LimitCredential{Credential: &tenantauthv1.LimitCredential_Session{Session: &tenantauthv1.ValidateSessionRequest{
			SessionId: l.SessionID, Key: string(l.Key), RequiredScopes: l.Scopes, ClientAddress: l.from.wire(),
		}}}
	}
	return &tenantauthv1.LimitCredential{Credential: &tenantauthv1.LimitCredential_Key{Key: &tenantauthv1.ValidateKeyRequest{
		Key: string(l.Key), RequiredScopes: l.Scopes, ClientAddress: l.from.wire(),
	}}}
}

// limitAnswer has the fields that the responses of Consume and of Reserve have in common.
type limitAnswer interface {
	GetVerdict() tenantauthv1.Verdict
	GetKey() *tenantauthv1.ValidateKeyResponse
	GetSession() *tenantauthv1.ValidateSessionResponse
	GetLimits() []*tenantauthv1.LimitDecision
}

// validationIn returns the validation of an answer. A validation that is missing must not turn into an admitted customer
// without a name.
func (l limitCaller) validationIn(answer limitAnswer) (made SessionValidation, err error) {
	switch {
	case l.ofSession && answer.GetSession() != nil:
		made, err = sessionValidationFromWire(answer.GetSession())
	case !l.ofSession && answer.GetKey() != nil:
		made.Validation, err = validationFromWire(answer.GetKey())
	default:
		err = invalidReply("the response contains no validation of the credential")
	}
	if err == nil && Verdict(answer.GetVerdict()).IsValid() && !made.IsValid() {
		err = invalidReply("the response admits a credential that is not valid")
	}
	return made, err
}

// decided is a decision about a credential and its limits.
type decided struct {
	verdict    Verdict
	validation SessionValidation
	limits     []LimitDecision
}

// decide reads an answer. It is not weaker than the near cache: if that knows a change that the answer does not reflect,
// because it comes from a replica that lags behind, the credential is validated as by [Client.ValidateKey].
func (c *Client) decide(ctx context.Context, caller limitCaller, answer limitAnswer) (decided, error) {
	validation, err := caller.validationIn(answer)
	if err != nil {
		return decided{}, err
	}
	limits, err := decisionsFromWire(answer.GetLimits())
	if err != nil {
		return decided{}, err
	}
	if validation.IsValid() && c.isBehindNearCache(caller, validation) {
		ctx = withClientAddress(ctx, caller.from)
		if caller.ofSession {
			validation, err = c.ValidateSession(ctx, caller.SessionID, caller.Key, caller.Scopes...)
		} else {
			validation.Validation, err = c.ValidateKey(ctx, caller.Key, caller.Scopes...)
		}
		if err != nil {
			return decided{}, err
		}
		if !validation.IsValid() {
			return decided{verdict: validation.Verdict, validation: validation}, nil
		}
	}
	kept := credential{key: caller.Key, from: caller.from}
	if caller.ofSession {
		kept.session, kept.presentedKeyID = Key(caller.SessionID), validation.PresentedKeyID
	}
	validation.keep(kept, caller.Scopes)
	return decided{verdict: Verdict(answer.GetVerdict()), validation: validation, limits: limits}, nil
}

// isBehindNearCache reports whether the near cache has a newer answer than this one, or knows a change that it does not reflect.
func (c *Client) isBehindNearCache(caller limitCaller, validation SessionValidation) bool {
	if c.cache == nil {
		return false
	}
	digest, subjects := c.keyDigest(caller.Key), subjectsOf(validation.TenantID, validation.KeyID, validation.PresentedKeyID)
	if caller.ofSession {
		digest = c.sessionDigest(caller.SessionID, caller.Key)
		subjects = append([]near.Subject{c.sessionSubject(caller.SessionID)}, subjects...)
	}
	revision := validation.Provenance.Revision
	if cached, ok := c.cache.Get(digest); ok && cached.Value.Provenance.Revision > revision {
		return true
	}
	return c.cache.IsOutdated(revision, subjects...)
}
