package fake

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// sessionPage is small, so that lists have several pages.
const sessionPage = 2

type sessions struct {
	tenantauthv1.UnimplementedSessionServiceServer

	sessionsMu sync.Mutex
	validation *validation
	order      []string
	bound      map[string]*tenantauthv1.Session
	openers    map[string]string
	now        func() time.Time
	// unbound is the provenance of answers about unknown sessions.
	unbound *tenantauthv1.Provenance
}

func (s *sessions) init(validation *validation) {
	s.validation = validation
	validation.sessions = s
	s.bound = map[string]*tenantauthv1.Session{}
	s.openers = map[string]string{}
	s.now = time.Now
	s.unbound = provenance()
}

// PutUnbound sets the revision of answers about unknown sessions.
func (s *sessions) PutUnbound(revision int64) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	s.unbound = provenance()
	s.unbound.Revision = revision
}

func (s *sessions) setNow(now func() time.Time) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	s.now = now
}

// BindSession binds a session to the tenant of a key.
func (s *sessions) BindSession(_ context.Context, request *tenantauthv1.BindSessionRequest) (*tenantauthv1.BindSessionResponse, error) {
	answer := s.validation.decide(request.GetKey(), request.GetClientAddress(), nil)
	if answer.GetVerdict() != tenantauthv1.Verdict_VERDICT_VALID {
		return &tenantauthv1.BindSessionResponse{Verdict: answer.GetVerdict()}, nil
	}
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	if present, ok := s.bound[request.GetSessionId()]; ok {
		if present.GetTenantId() != answer.GetTenantId() {
			return &tenantauthv1.BindSessionResponse{Verdict: tenantauthv1.Verdict_VERDICT_TENANT_MISMATCH}, nil
		}
		return &tenantauthv1.BindSessionResponse{Verdict: answer.GetVerdict(), Session: proto.Clone(present).(*tenantauthv1.Session), AlreadyBound: true}, nil
	}
	now := s.now()
	session := &tenantauthv1.Session{
		SessionId:  request.GetSessionId(),
		TenantId:   answer.GetTenantId(),
		KeyId:      answer.GetKeyId(),
		CreatedAt:  timestamppb.New(now),
		ExpiresAt:  timestamppb.New(now.Add(request.GetTtl().AsDuration())),
		Expiry:     request.GetExpiry(),
		Attributes: request.GetAttributes(),
	}
	s.bound[session.GetSessionId()] = session
	s.openers[session.GetSessionId()] = request.GetKey()
	s.order = append(s.order, session.GetSessionId())
	return &tenantauthv1.BindSessionResponse{Verdict: answer.GetVerdict(), Session: proto.Clone(session).(*tenantauthv1.Session)}, nil
}

// UnbindSession removes a session.
func (s *sessions) UnbindSession(_ context.Context, request *tenantauthv1.UnbindSessionRequest) (*tenantauthv1.UnbindSessionResponse, error) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	session, ok := s.bound[request.GetSessionId()]
	ok = ok && session.GetTenantId() == request.GetTenantId()
	if ok {
		delete(s.bound, request.GetSessionId())
		s.order = slices.DeleteFunc(s.order, func(id string) bool { return id == request.GetSessionId() })
	}
	return &tenantauthv1.UnbindSessionResponse{WasBound: ok}, nil
}

// ListSessions lists sessions, newest first, in small pages. The token is the id of the next session.
func (s *sessions) ListSessions(_ context.Context, request *tenantauthv1.ListSessionsRequest) (*tenantauthv1.ListSessionsResponse, error) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	reply := &tenantauthv1.ListSessionsResponse{}
	started := request.GetPageToken() == ""
	for _, id := range slices.Backward(s.order) {
		started = started || id == request.GetPageToken()
		if !started || s.bound[id].GetTenantId() != request.GetTenantId() {
			continue
		}
		if len(reply.GetSessions()) == sessionPage {
			reply.NextPageToken = id
			break
		}
		reply.Sessions = append(reply.Sessions, proto.Clone(s.bound[id]).(*tenantauthv1.Session))
	}
	return reply, nil
}

// ValidateSession decides by the key that opened the session.
func (v *validation) ValidateSession(_ context.Context, request *tenantauthv1.ValidateSessionRequest) (*tenantauthv1.ValidateSessionResponse, error) {
	if request.GetSessionId() == "" {
		return nil, Invalid("session_id", "must not be empty")
	}
	s := v.sessions
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	session, ok := s.bound[request.GetSessionId()]
	if !ok {
		return &tenantauthv1.ValidateSessionResponse{Verdict: tenantauthv1.Verdict_VERDICT_UNBOUND, Provenance: s.unbound}, nil
	}
	answer := v.decide(s.openers[session.GetSessionId()], request.GetClientAddress(), request.GetRequiredScopes())
	presented := v.decide(request.GetKey(), request.GetClientAddress(), nil)
	var presentedNetworks []string
	if presented.GetKeyId() != answer.GetKeyId() {
		presentedNetworks = presented.GetAllowedNetworks()
	}
	verdict := answer.GetVerdict()
	switch {
	case !s.now().Before(session.GetExpiresAt().AsTime()):
		verdict = tenantauthv1.Verdict_VERDICT_SESSION_EXPIRED
	case request.GetKey() != "" && presented.GetTenantId() != session.GetTenantId():
		verdict = tenantauthv1.Verdict_VERDICT_TENANT_MISMATCH
	case verdict == tenantauthv1.Verdict_VERDICT_VALID:
		verdict = compare(presentedNetworks, request.GetClientAddress())
	}
	return &tenantauthv1.ValidateSessionResponse{
		Verdict:       verdict,
		TenantId:      answer.GetTenantId(),
		TenantName:    answer.GetTenantName(),
		Plan:          answer.GetPlan(),
		KeyId:         answer.GetKeyId(),
		Scopes:        answer.GetScopes(),
		ExpiresAt:     session.GetExpiresAt(),
		Provenance:    answer.GetProvenance(),
		MissingScopes: answer.GetMissingScopes(),
		Attributes:    session.GetAttributes(),

		PresentedKeyId:  presented.GetKeyId(),
		AllowedNetworks: answer.GetAllowedNetworks(),

		PresentedKeyAllowedNetworks: presentedNetworks,
	}, nil
}
