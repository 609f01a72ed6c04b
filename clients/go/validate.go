package tenantauth

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"google.golang.org/grpc/status"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

const (
	// maxBatchKeys is the contract's maximum number of keys per call.
	maxBatchKeys = 1_000
	// maxKeyLen is far longer than any key, and short enough that a batch of 1,000 keys fits into one message.
	maxKeyLen = 512
	// maxSessionIDLen is the contract's maximum length of a session id.
	maxSessionIDLen = 1_024
)

// KeyQuery is a key to validate, with the scopes that it must hold.
type KeyQuery struct {
	// Key is the key, as the customer presented it.
	Key Key
	// Scopes are the scopes that the key must hold, all of them. If empty, the key needs no scope.
	Scopes []string
	// ClientAddress is the network address of the customer, as for [ContextWithClientAddressText]. If it is empty, the
	// address of the context applies.
	ClientAddress string
}

// Outcome is the validation of one key of a batch, or its error.
type Outcome struct {
	Validation
	// Err is nil if the key was decided.
	Err error
}

// ValidateKey validates one key. The key must hold all of the scopes; without scopes, it only has to be active. A key that
// may be used from certain networks only needs a context with the client address: see [ContextWithClientAddress].
func (c *Client) ValidateKey(ctx context.Context, key Key, scopes ...string) (validation Validation, err error) {
	if c.gate.isClosed() {
		return Validation{}, closedError()
	}
	from := clientAddressOf(ctx)
	if err = from.err(); err != nil {
		return Validation{}, err
	}
	if isUnsendableKey(key) {
		return Validation{Verdict: Malformed}, nil
	}
	if c.cache == nil || !areValidScopes(scopes) {
		if err = c.gate.enter(); err != nil {
			return Validation{}, err
		}
		defer c.gate.leave()
		validation, err = c.requestKeyValidation(ctx, key, from, scopes)
		validation.keep(credential{key: key, from: from}, scopes)
		return validation, err
	}
	digest := c.keyDigest(key)
	result, cached := c.cache.Get(digest)
	if !cached {
		if result, err = c.requestSharedKeyAnswer(ctx, digest, key, from); err != nil {
			return Validation{}, err
		}
	}
	copyForCaller(result, from.plain, scopes, &validation)
	validation.keep(credential{key: key, from: from}, scopes)
	return validation, nil
}

// ValidateSession validates one session. If key is not empty, it must belong to the tenant of the session. The key that
// opened the session must hold all of the scopes. The client address must be in the networks of both keys.
func (c *Client) ValidateSession(ctx context.Context, sessionID string, key Key, scopes ...string) (SessionValidation, error) {
	if c.gate.isClosed() {
		return SessionValidation{}, closedError()
	}
	if err := checkSessionID(sessionID); err != nil {
		return SessionValidation{}, err
	}
	from := clientAddressOf(ctx)
	if err := from.err(); err != nil {
		return SessionValidation{}, err
	}
	if isUnsendableKey(key) {
		return SessionValidation{Validation: Validation{Verdict: Malformed}}, nil
	}
	if c.cache == nil || !areValidScopes(scopes) {
		if err := c.gate.enter(); err != nil {
			return SessionValidation{}, err
		}
		defer c.gate.leave()
		validation, err := c.requestSessionValidation(ctx, sessionID, key, from, scopes)
		validation.keep(credential{key: key, session: Key(sessionID), from: from, presentedKeyID: validation.PresentedKeyID}, scopes)
		return validation, err
	}
	digest := c.sessionDigest(sessionID, key)
	result, cached := c.cache.Get(digest)
	if !cached {
		var err error
		if result, err = c.requestSharedSessionAnswer(ctx, digest, sessionID, key, from); err != nil {
			return SessionValidation{}, err
		}
	}
	own := SessionValidation{
		Attributes:     maps.Clone(result.Value.Attributes),
		PresentedKeyID: result.Value.PresentedKeyID,

		PresentedKeyAllowedNetworks: slices.Clone(result.Value.PresentedKeyAllowedNetworks),
	}
	copyForCaller(result, from.plain, scopes, &own.Validation)
	own.keep(credential{key: key, session: Key(sessionID), from: from, presentedKeyID: own.PresentedKeyID}, scopes)
	return own, nil
}

// ValidateKeys validates 1 to 1,000 keys in one call, without the near cache. The outcomes are in the order of the
// queries. The returned error concerns the whole call; a key that cannot be decided has an error of its own.
func (c *Client) ValidateKeys(ctx context.Context, queries []KeyQuery) ([]Outcome, error) {
	if err := c.gate.enter(); err != nil {
		return nil, err
	}
	defer c.gate.leave()
	if len(queries) > maxBatchKeys {
		return nil, invalidField("requests", fmt.Sprintf("has %d keys; at most %d are allowed in one call", len(queries), maxBatchKeys))
	}
	outcomes := make([]Outcome, len(queries))
	request := &tenantauthv1.BatchValidateKeysRequest{}
	shared := clientAddressOf(ctx)
	var indexes []int
	var secrets []string
	var addresses []clientAddress
	for index, query := range queries {
		if !utf8.ValidString(string(query.Key)) {
			outcomes[index].Verdict = Malformed
			continue
		}
		from := shared
		if query.ClientAddress != "" {
			from = fromText(query.ClientAddress)
		}
		if outcomes[index].Err = checkQuery(query, from); outcomes[index].Err != nil {
			continue
		}
		indexes = append(indexes, index)
		secrets, addresses = append(secrets, string(query.Key)), append(addresses, from)
		request.Requests = append(request.Requests, &tenantauthv1.ValidateKeyRequest{
			Key: string(query.Key), RequiredScopes: query.Scopes, ClientAddress: from.wire(),
		})
	}
	if len(indexes) == 0 && len(queries) > 0 {
		return outcomes, nil
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.BatchValidateKeysRequest, *tenantauthv1.BatchValidateKeysResponse]{
		call: c.validation.BatchValidateKeys, request: request, readOnly: true, secrets: secrets,
	})
	if err != nil {
		return nil, err
	}
	// Results are matched by index, so a wrong number of results could assign a verdict to the wrong key.
	if len(reply.GetResults()) != len(indexes) {
		return nil, invalidReply(fmt.Sprintf("the response has %d results for %d keys", len(reply.GetResults()), len(indexes)))
	}
	for position, result := range reply.GetResults() {
		outcome := outcomeFromWire(result, secrets[position])
		query := queries[indexes[position]]
		outcome.keep(credential{key: query.Key, from: addresses[position]}, query.Scopes)
		outcomes[indexes[position]] = outcome
	}
	return outcomes, nil
}

// isUnsendableKey reports whether a text cannot be sent as a key: the message would be rejected, which would look like
// an outage.
func isUnsendableKey(key Key) bool { return len(key) > maxKeyLen || !utf8.ValidString(string(key)) }

// checkSessionID rejects texts that cannot be sent as a session id.
func checkSessionID(id string) error {
	if len(id) > maxSessionIDLen || !utf8.ValidString(id) {
		return invalidField("session_id", "must be 1 to 1,024 visible ASCII characters")
	}
	return nil
}

// checkQuery rejects entries for which the service would reject the whole batch.
func checkQuery(query KeyQuery, from clientAddress) error {
	switch key := query.Key; {
	case key == "":
		return invalidField("key", "must not be empty")
	case len(key) > maxKeyLen:
		return invalidField("key", fmt.Sprintf("has %d bytes; at most %d are allowed", len(key), maxKeyLen))
	}
	if err := from.err(); err != nil {
		return err
	}
	if len(query.Scopes) > maxScopes {
		return CheckScopes(query.Scopes...)
	}
	for index, scope := range query.Scopes {
		// All other errors of a scope are left to the service: it rejects only this entry.
		if len(scope) > maxScopeLen || !utf8.ValidString(scope) {
			return invalidField(fmt.Sprintf("required_scopes[%d]", index), "must be 1 to 64 characters of a-z 0-9 : . _ - / *")
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
		return Outcome{Err: invalidReply("the response contains no result for a key")}
	}
}

func (c *Client) requestKeyValidation(ctx context.Context, key Key, from clientAddress, scopes []string) (Validation, error) {
	request := &tenantauthv1.ValidateKeyRequest{Key: string(key), RequiredScopes: scopes, ClientAddress: from.wire()}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.ValidateKeyRequest, *tenantauthv1.ValidateKeyResponse]{
		call: c.validation.ValidateKey, request: request, readOnly: true, secrets: []string{string(key)},
	})
	if err != nil {
		return Validation{}, err
	}
	return validationFromWire(reply)
}

func (c *Client) requestSessionValidation(
	ctx context.Context, sessionID string, key Key, from clientAddress, scopes []string,
) (SessionValidation, error) {
	request := &tenantauthv1.ValidateSessionRequest{
		SessionId: sessionID, Key: string(key), RequiredScopes: scopes, ClientAddress: from.wire(),
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.ValidateSessionRequest, *tenantauthv1.ValidateSessionResponse]{
		call: c.validation.ValidateSession, request: request, readOnly: true, secrets: []string{string(key)},
	})
	if err != nil {
		return SessionValidation{}, err
	}
	return sessionValidationFromWire(reply)
}

func sessionValidationFromWire(message *tenantauthv1.ValidateSessionResponse) (SessionValidation, error) {
	validation, err := validationFromWire(message)
	return SessionValidation{
		Validation:     validation,
		Attributes:     message.GetAttributes(),
		PresentedKeyID: message.GetPresentedKeyId(),

		PresentedKeyAllowedNetworks: networksFromWire(message.GetPresentedKeyAllowedNetworks()),
	}, err
}
