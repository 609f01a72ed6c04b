package fake

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

type validation struct {
	tenantauthv1.UnimplementedValidationServiceServer

	keysMu   sync.Mutex
	keys     map[string]*tenantauthv1.ValidateKeyResponse
	unknown  *tenantauthv1.ValidateKeyResponse
	sessions *sessions
}

// DefaultRevision is the default revision of answers.
const DefaultRevision = 10

// DefaultCacheableFor is the default cacheable_for of answers.
const DefaultCacheableFor = 5 * time.Second

// DefaultCacheableWhileWatched is the default cacheable_while_watched of answers; negative answers have none.
const DefaultCacheableWhileWatched = time.Minute

func watchedProvenance() *tenantauthv1.Provenance {
	made := provenance()
	made.CacheableWhileWatched = durationpb.New(DefaultCacheableWhileWatched)
	return made
}

func provenance() *tenantauthv1.Provenance {
	return &tenantauthv1.Provenance{
		Source:       tenantauthv1.Source_SOURCE_DATABASE,
		Revision:     DefaultRevision,
		CacheableFor: durationpb.New(DefaultCacheableFor),
	}
}

// Valid returns an answer for an active key of the tenant ten_1.
func Valid(keyID string, scopes ...string) *tenantauthv1.ValidateKeyResponse {
	return &tenantauthv1.ValidateKeyResponse{
		Verdict:    tenantauthv1.Verdict_VERDICT_VALID,
		TenantId:   "ten_1",
		TenantName: "Acme",
		Plan:       "pro",
		KeyId:      keyID,
		Scopes:     scopes,
		Provenance: watchedProvenance(),
	}
}

// Restricted returns an answer for an active key of the tenant ten_1 that may be used from certain networks only.
func Restricted(keyID string, networks ...string) *tenantauthv1.ValidateKeyResponse {
	answer := Valid(keyID, "orders:read")
	answer.AllowedNetworks = networks
	return answer
}

// At returns the answer with another revision.
func At(revision int64, answer *tenantauthv1.ValidateKeyResponse) *tenantauthv1.ValidateKeyResponse {
	answer.Provenance.Revision = revision
	return answer
}

// Denied returns an answer with another verdict.
func Denied(verdict tenantauthv1.Verdict, keyID string) *tenantauthv1.ValidateKeyResponse {
	answer := Valid(keyID)
	answer.Verdict = verdict
	return answer
}

func (v *validation) init() {
	v.keys = map[string]*tenantauthv1.ValidateKeyResponse{}
	v.unknown = &tenantauthv1.ValidateKeyResponse{Verdict: tenantauthv1.Verdict_VERDICT_UNKNOWN, Provenance: provenance()}
}

// Put sets the answer for a key. The server evaluates the client address and required scopes for each request.
func (v *validation) Put(key string, answer *tenantauthv1.ValidateKeyResponse) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	v.keys[key] = answer
}

// PutUnknown sets the answer for all unknown keys.
func (v *validation) PutUnknown(answer *tenantauthv1.ValidateKeyResponse) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	v.unknown = answer
}

func (v *validation) decide(key, from string, required []string) *tenantauthv1.ValidateKeyResponse {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	known, ok := v.keys[key]
	if !ok {
		known = v.unknown
	}
	answer := proto.Clone(known).(*tenantauthv1.ValidateKeyResponse)
	if answer.GetVerdict() != tenantauthv1.Verdict_VERDICT_VALID {
		return answer
	}
	if answer.Verdict = compare(answer.GetAllowedNetworks(), from); answer.GetVerdict() != tenantauthv1.Verdict_VERDICT_VALID {
		return answer
	}
	answer.MissingScopes = missing(answer.GetScopes(), required)
	if len(answer.GetMissingScopes()) > 0 {
		answer.Verdict = tenantauthv1.Verdict_VERDICT_INSUFFICIENT_SCOPE
	}
	return answer
}

// compare returns the verdict on an address. It requires the plain form of an address, which clients send.
func compare(networks []string, from string) tenantauthv1.Verdict {
	if len(networks) == 0 {
		return tenantauthv1.Verdict_VERDICT_VALID
	}
	if from == "" {
		return tenantauthv1.Verdict_VERDICT_ADDRESS_REQUIRED
	}
	for _, text := range networks {
		if network, err := netip.ParsePrefix(text); err == nil && network.Contains(netip.MustParseAddr(from)) {
			return tenantauthv1.Verdict_VERDICT_VALID
		}
	}
	return tenantauthv1.Verdict_VERDICT_ADDRESS_NOT_ALLOWED
}

func missing(held, required []string) (lacking []string) {
	for _, scope := range required {
		if !slices.Contains(held, scope) {
			lacking = append(lacking, scope)
		}
	}
	return lacking
}

// ValidateKey returns the answer that was set.
func (v *validation) ValidateKey(_ context.Context, request *tenantauthv1.ValidateKeyRequest) (*tenantauthv1.ValidateKeyResponse, error) {
	if request.GetKey() == "" {
		return nil, Invalid("key", "must not be empty")
	}
	if slices.Contains(request.GetRequiredScopes(), "") {
		return nil, Invalid("required_scopes[0]", "must not be empty")
	}
	return v.decide(request.GetKey(), request.GetClientAddress(), request.GetRequiredScopes()), nil
}

// BatchValidateKeys returns the answers that were set; the key "undecidable" gets an error.
func (v *validation) BatchValidateKeys(_ context.Context, request *tenantauthv1.BatchValidateKeysRequest) (*tenantauthv1.BatchValidateKeysResponse, error) {
	reply := &tenantauthv1.BatchValidateKeysResponse{}
	for _, query := range request.GetRequests() {
		result := &tenantauthv1.BatchValidateKeysResult{}
		if query.GetKey() == "undecidable" {
			result.Result = &tenantauthv1.BatchValidateKeysResult_Error{
				Error: status.Convert(Unavailable("DATABASE_TIMED_OUT", time.Second)).Proto(),
			}
		} else {
			answer := v.decide(query.GetKey(), query.GetClientAddress(), query.GetRequiredScopes())
			result.Result = &tenantauthv1.BatchValidateKeysResult_Response{Response: answer}
		}
		reply.Results = append(reply.Results, result)
	}
	return reply, nil
}

// Unavailable returns the error of a service whose database does not respond.
func Unavailable(reason string, retryAfter time.Duration) error {
	return errorWithDetails(codes.Unavailable, "not decided", reason, retryAfter)
}

// Overloaded returns the error of an overloaded service.
func Overloaded(retryAfter time.Duration) error {
	return errorWithDetails(codes.ResourceExhausted, "overloaded", "DATABASE_OVERLOADED", retryAfter)
}

func errorWithDetails(code codes.Code, message, reason string, retryAfter time.Duration) error {
	made, err := status.New(code, message).WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: "tenantauth.v1"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)},
	)
	if err != nil {
		panic(err)
	}
	return made.Err()
}

// Invalid returns an error about one field.
func Invalid(field, description string) error {
	violation := &errdetails.BadRequest_FieldViolation{Field: field, Description: description}
	made, err := status.New(codes.InvalidArgument, field+": "+description).WithDetails(
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}},
	)
	if err != nil {
		panic(err)
	}
	return made.Err()
}
