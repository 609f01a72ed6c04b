package httpauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

// stub answers everything with the same, and remembers what it was asked.
type stub struct {
	validation tenantauth.Validation
	err        error
	keys       []tenantauth.Key
	scopes     []string
}

func (s *stub) ValidateKey(_ context.Context, key tenantauth.Key, scopes ...string) (tenantauth.Validation, error) {
	s.keys, s.scopes = append(s.keys, key), scopes
	return s.validation, s.err
}

func serve(auth *httpauth.Middleware, header http.Header) *httptest.ResponseRecorder {
	handler := auth.Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := tenantauth.PrincipalFrom(r.Context())
		if !ok || !principal.Has("orders:read") {
			http.Error(w, "there is no principal", http.StatusTeapot)
			return
		}
		_, _ = w.Write([]byte(principal.TenantID + " " + principal.TenantName + " " + principal.Plan + " " + principal.KeyID))
	}))
	request := httptest.NewRequest(http.MethodGet, "/orders", nil)
	request.Header = header
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

var bearer = http.Header{"Authorization": {"Bearer ta_key"}}

func TestAGoodKeyIsLetThroughWithItsPrincipal(t *testing.T) {
	validation := tenantauth.Validation{
		Verdict: tenantauth.Valid, TenantID: "ten_1", TenantName: "Acme", Plan: "pro", KeyID: "key_1", Scopes: []string{"orders:read"},
	}
	for name, test := range map[string]struct {
		header  http.Header
		options []httpauth.Option
	}{
		"bearer":              {bearer, nil},
		"in other letters":    {http.Header{"Authorization": {"bEARER  ta_key "}}, nil},
		"a header of its own": {http.Header{"X-Api-Key": {"ta_key"}}, []httpauth.Option{httpauth.WithHeader("x-api-key")}},
	} {
		service := &stub{validation: validation}
		response := serve(httpauth.New(service, test.options...), test.header)
		if response.Code != http.StatusOK || response.Body.String() != "ten_1 Acme pro key_1" {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
		if len(service.keys) != 1 || string(service.keys[0]) != "ta_key" || service.scopes[0] != "orders:read" {
			t.Errorf("%s: asked %d times", name, len(service.keys))
		}
	}
}

func TestARequestWithoutOneKeyIsRefusedWithoutAsking(t *testing.T) {
	for name, header := range map[string]http.Header{
		"none":           {},
		"another scheme": {"Authorization": {"Basic dGE6a2V5"}},
		"empty":          {"Authorization": {"Bearer "}},
		"two":            {"Authorization": {"Bearer one", "Bearer two"}},
	} {
		service := &stub{}
		response := serve(httpauth.New(service), header)
		if response.Code != http.StatusUnauthorized || response.Header().Get("WWW-Authenticate") != "Bearer" || service.keys != nil {
			t.Errorf("%s: %d, asked %d times", name, response.Code, len(service.keys))
		}
	}
}

func TestEachAnswerHasItsStatus(t *testing.T) {
	const invalidToken = `Bearer error="invalid_token"`
	failure := func(kind error, code codes.Code) error { return &tenantauth.Error{Kind: kind, Code: code} }
	verdict := func(verdict tenantauth.Verdict) *stub {
		return &stub{validation: tenantauth.Validation{Verdict: verdict}}
	}
	violation := func(field string) *stub {
		return &stub{err: &tenantauth.Error{Kind: tenantauth.ErrInvalid, Violations: []tenantauth.Violation{{Field: field}}}}
	}
	later := &tenantauth.Error{Kind: tenantauth.ErrUnavailable, RetryAfter: 1_500 * time.Millisecond}
	lacking := verdict(tenantauth.InsufficientScope)
	lacking.validation.MissingScopes = []string{"a", "b"}
	for name, test := range map[string]struct {
		service               *stub
		status                int
		challenge, retryAfter string
	}{
		"unknown":           {verdict(tenantauth.Unknown), 401, invalidToken, ""},
		"malformed":         {verdict(tenantauth.Malformed), 401, invalidToken, ""},
		"expired":           {verdict(tenantauth.Expired), 401, invalidToken, ""},
		"revoked":           {verdict(tenantauth.Revoked), 401, invalidToken, ""},
		"suspended":         {verdict(tenantauth.TenantSuspended), 403, "", ""},
		"lacking":           {lacking, 403, `Bearer error="insufficient_scope", scope="a b"`, ""},
		"quota":             {verdict(tenantauth.QuotaExceeded), 429, "", "1"},
		"rate":              {verdict(tenantauth.RateLimited), 429, "", "1"},
		"something new":     {verdict(42), 403, "", ""},
		"undecided":         {verdict(0), 403, "", ""},
		"unavailable":       {&stub{err: failure(tenantauth.ErrUnavailable, codes.Unavailable)}, 503, "", "1"},
		"unavailable, when": {&stub{err: later}, 503, "", "2"},
		"overloaded":        {&stub{err: failure(tenantauth.ErrOverloaded, codes.ResourceExhausted)}, 503, "", "1"},
		"deadline":          {&stub{err: failure(tenantauth.ErrDeadline, codes.DeadlineExceeded)}, 503, "", "1"},
		"our own token":     {&stub{err: failure(tenantauth.ErrUnauthenticated, codes.Unauthenticated)}, 503, "", "1"},
		"our own rights":    {&stub{err: failure(tenantauth.ErrPermissionDenied, codes.PermissionDenied)}, 503, "", "1"},
		"a defect":          {&stub{err: failure(tenantauth.ErrOther, codes.Internal)}, 503, "", "1"},
		"any error":         {&stub{err: errors.New("whatever")}, 503, "", "1"},
		"no key at all":     {violation("key"), 401, invalidToken, ""},
		"no such scope":     {violation("required_scopes[0]"), 500, "", ""},
	} {
		denied := 0
		auth := httpauth.New(test.service, httpauth.WithOnDenied(func(*http.Request, tenantauth.Validation, error) { denied++ }))
		response := serve(auth, bearer)
		header := response.Header()
		if response.Code != test.status || header.Get("WWW-Authenticate") != test.challenge || header.Get("Retry-After") != test.retryAfter || denied != 1 {
			t.Errorf("%s: %d %q %q, told of %d", name, response.Code, header.Get("WWW-Authenticate"), header.Get("Retry-After"), denied)
		}
		var problem struct {
			Title  string
			Status int
			Reason string
		}
		if err := json.Unmarshal(response.Body.Bytes(), &problem); err != nil || problem.Status != test.status || problem.Title == "" || problem.Reason == "" {
			t.Errorf("%s: %s", name, response.Body)
		}
	}
}
