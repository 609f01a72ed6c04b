package tenantauth

import (
	"context"
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc/status"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/near"
	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const (
	// mostQuestions is the contract's most keys in one call.
	mostQuestions = 1_000
	// longestKey is far beyond any key, and short enough for a thousand of them to fit into a call with room to spare.
	longestKey = 512
	// longestSessionID is the contract's.
	longestSessionID = 128
)

// Question is a key to decide about, and the scopes that it must hold.
type Question struct {
	// Key is the key as the customer presented it.
	Key Key
	// Scopes must all be held; none means that any live key is good.
	Scopes []string
}

// Outcome is the decision about one key of several, or why there is none.
type Outcome struct {
	Validation
	// Err is nil when there is a decision.
	Err error
}

// ValidateKey decides about one key. It must hold all of the scopes; none means that any live key is good.
func (c *Client) ValidateKey(ctx context.Context, key Key, scopes ...string) (Validation, error) {
	if c.gate.isShut() {
		return Validation{}, closed()
	}
	if noKey(key) {
		return Validation{Verdict: Malformed}, nil
	}
	if c.near == nil || !ordinary(scopes) {
		if err := c.gate.enter(); err != nil {
			return Validation{}, err
		}
		defer c.gate.leave()
		return c.askKey(ctx, key, scopes)
	}
	digest := c.hasher.Digest("key", string(key))
	result, known := c.near.Known(digest)
	if !known {
		err := c.gate.enter()
		if err != nil {
			return Validation{}, err
		}
		defer c.gate.leave()
		ctx, cancel := c.limit(ctx)
		defer cancel()
		result, err = c.near.Ask(ctx, near.Question{Digest: digest}, func(ctx context.Context) (near.Answer[*SessionValidation], error) {
			// Without scopes: all that ask about this key share the answer, whatever they require of it.
			validation, err := c.askKey(ctx, key, nil)
			return keep(SessionValidation{Validation: validation}), err
		})
		if err != nil {
			return Validation{}, asError(err)
		}
	}
	return answered(result, scopes).Validation, nil
}

// ValidateSession decides about one session. With a key, the session must belong to the key's tenant; an empty key
// leaves that out. The key that opened the session must hold all of the scopes.
func (c *Client) ValidateSession(ctx context.Context, sessionID string, key Key, scopes ...string) (SessionValidation, error) {
	if c.gate.isShut() {
		return SessionValidation{}, closed()
	}
	if err := checkSessionID(sessionID); err != nil {
		return SessionValidation{}, err
	}
	if noKey(key) {
		return SessionValidation{Validation: Validation{Verdict: Malformed}}, nil
	}
	if c.near == nil || !ordinary(scopes) {
		if err := c.gate.enter(); err != nil {
			return SessionValidation{}, err
		}
		defer c.gate.leave()
		return c.askSession(ctx, sessionID, key, scopes)
	}
	digest := c.hasher.Digest("session", sessionID, string(key))
	result, known := c.near.Known(digest)
	if !known {
		err := c.gate.enter()
		if err != nil {
			return SessionValidation{}, err
		}
		defer c.gate.leave()
		ctx, cancel := c.limit(ctx)
		defer cancel()
		result, err = c.near.Ask(ctx, near.Question{Digest: digest}, func(ctx context.Context) (near.Answer[*SessionValidation], error) {
			validation, err := c.askSession(ctx, sessionID, key, nil)
			return keep(validation, c.sessionSubject(sessionID)), err
		})
		if err != nil {
			return SessionValidation{}, asError(err)
		}
	}
	return answered(result, scopes), nil
}

// ValidateKeys decides about 1 to 1,000 keys in one call, without the near-cache. Outcomes keep the order of the
// questions. The error is for the call as a whole; a key that cannot be decided fails alone.
func (c *Client) ValidateKeys(ctx context.Context, questions []Question) ([]Outcome, error) {
	if err := c.gate.enter(); err != nil {
		return nil, err
	}
	defer c.gate.leave()
	if len(questions) > mostQuestions {
		return nil, invalid("requests", fmt.Sprintf("has %d keys; at most %d may be asked about at once", len(questions), mostQuestions))
	}
	outcomes := make([]Outcome, len(questions))
	request := &tenantauthv1.BatchValidateKeysRequest{}
	var asked []int
	var secrets []string
	for index, question := range questions {
		if !utf8.ValidString(string(question.Key)) {
			outcomes[index].Verdict = Malformed
			continue
		}
		if outcomes[index].Err = checkQuestion(question); outcomes[index].Err != nil {
			continue
		}
		asked = append(asked, index)
		secrets = append(secrets, string(question.Key))
		request.Requests = append(request.Requests,
			&tenantauthv1.ValidateKeyRequest{Key: string(question.Key), RequiredScopes: question.Scopes})
	}
	if len(asked) == 0 && len(questions) > 0 {
		return outcomes, nil
	}
	reply, err := invoke(ctx, c, question[*tenantauthv1.BatchValidateKeysRequest, *tenantauthv1.BatchValidateKeysResponse]{
		call: c.validation.BatchValidateKeys, request: request, reads: true, secrets: secrets,
	})
	if err != nil {
		return nil, err
	}
	// Outcomes are matched by their place: one too few would give a key the verdict of another.
	if len(reply.GetResults()) != len(asked) {
		return nil, broken(fmt.Sprintf("%d keys were asked about and %d answered", len(asked), len(reply.GetResults())))
	}
	for place, result := range reply.GetResults() {
		outcomes[asked[place]] = outcomeFromWire(result, secrets[place])
	}
	return outcomes, nil
}

// noKey tells whether a text cannot even travel as a key: it would be refused as a message, which looks like an outage.
func noKey(key Key) bool { return len(key) > longestKey || !utf8.ValidString(string(key)) }

// checkSessionID refuses what cannot even travel as the id of a session.
func checkSessionID(id string) error {
	if len(id) > longestSessionID || !utf8.ValidString(id) {
		return invalid("session_id", "must be 1 to 128 visible ASCII characters")
	}
	return nil
}

// checkQuestion refuses what a whole batch could be refused for.
func checkQuestion(question Question) error {
	switch key := question.Key; {
	case key == "":
		return invalid("key", "must not be empty")
	case len(key) > longestKey:
		return invalid("key", fmt.Sprintf("has %d bytes; at most %d are allowed", len(key), longestKey))
	}
	if len(question.Scopes) > mostScopes {
		return CheckScopes(question.Scopes...)
	}
	for index, scope := range question.Scopes {
		// What else may be wrong with it is the service's to say: that harms no other.
		if len(scope) > longestScope || !utf8.ValidString(scope) {
			return invalid(fmt.Sprintf("required_scopes[%d]", index), "must be 1 to 64 characters of a-z 0-9 : . _ - / *")
		}
	}
	return nil
}

func outcomeFromWire(result *tenantauthv1.BatchValidateKeysResult, secret string) Outcome {
	switch result := result.GetResult().(type) {
	case *tenantauthv1.BatchValidateKeysResult_Response:
		validation, err := validationFromWire(result.Response)
		return Outcome{Validation: validation, Err: err}
	case *tenantauthv1.BatchValidateKeysResult_Error:
		return Outcome{Err: errorFrom(status.FromProto(result.Error), "", []string{secret})}
	default:
		return Outcome{Err: broken("the reply holds no outcome for a key")}
	}
}

func (c *Client) askKey(ctx context.Context, key Key, scopes []string) (Validation, error) {
	request := &tenantauthv1.ValidateKeyRequest{Key: string(key), RequiredScopes: scopes}
	reply, err := invoke(ctx, c, question[*tenantauthv1.ValidateKeyRequest, *tenantauthv1.ValidateKeyResponse]{
		call: c.validation.ValidateKey, request: request, reads: true, secrets: []string{string(key)},
	})
	if err != nil {
		return Validation{}, err
	}
	return validationFromWire(reply)
}

func (c *Client) askSession(ctx context.Context, sessionID string, key Key, scopes []string) (SessionValidation, error) {
	request := &tenantauthv1.ValidateSessionRequest{SessionId: sessionID, Key: string(key), RequiredScopes: scopes}
	reply, err := invoke(ctx, c, question[*tenantauthv1.ValidateSessionRequest, *tenantauthv1.ValidateSessionResponse]{
		call: c.validation.ValidateSession, request: request, reads: true, secrets: []string{string(key)},
	})
	if err != nil {
		return SessionValidation{}, err
	}
	validation, err := validationFromWire(reply)
	return SessionValidation{
		Validation: validation, Attributes: reply.GetAttributes(), PresentedKeyID: reply.GetPresentedKeyId(),
	}, err
}
