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
	if !utf8.ValidString(string(key)) {
		// It cannot travel, and it cannot be a key.
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
	if !utf8.ValidString(string(key)) {
		return SessionValidation{Validation: Validation{Verdict: Malformed}}, nil
	}
	if !utf8.ValidString(sessionID) {
		return SessionValidation{}, invalid("session_id", "must be UTF-8")
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
		if outcomes[index].Err = checkKey(question.Key); outcomes[index].Err != nil {
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

// checkKey refuses a key for which a whole batch could be refused.
func checkKey(key Key) error {
	switch {
	case key == "":
		return invalid("key", "must not be empty")
	case len(key) > longestKey:
		return invalid("key", fmt.Sprintf("has %d bytes; at most %d are allowed", len(key), longestKey))
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
