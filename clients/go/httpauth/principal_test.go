package httpauth_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

// verifierStub returns the same result for every token, and records its calls.
type verifierStub struct {
	principal tenantauth.VerifiedPrincipal
	err       error
	tokens    []string
	scopes    []string
}

func (s *verifierStub) Verify(_ context.Context, token string, scopes ...string) (tenantauth.VerifiedPrincipal, error) {
	s.tokens, s.scopes = append(s.tokens, token), scopes
	return s.principal, s.err
}

func behindProxy(t *testing.T, verifier httpauth.PrincipalVerifier, options ...httpauth.Option) *httpauth.Middleware {
	t.Helper()
	auth, err := httpauth.NewPrincipal(verifier, append([]httpauth.Option{httpauth.WithLogger(slog.New(slog.DiscardHandler))}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

// longToken is longer than a key may be.
var longToken = strings.Repeat("a", 2_000)

func TestPrincipalTokenIsAdmittedWithItsPrincipal(t *testing.T) {
	for name, test := range map[string]struct {
		header  http.Header
		options []httpauth.Option
	}{
		"X-Tenant-Principal": {http.Header{"X-Tenant-Principal": {longToken}, "Authorization": {"Bearer ta_key"}}, nil},
		"another header":     {http.Header{"X-Principal": {longToken}}, []httpauth.Option{httpauth.WithHeader("X-Principal")}},
	} {
		verifier := &verifierStub{principal: tenantauth.VerifiedPrincipal{
			Principal: tenantauth.Principal{TenantID: "ten_1", Plan: "pro", KeyID: "key_1", Scopes: []string{"orders:read"}},
		}}
		response := serve(behindProxy(t, verifier, test.options...), test.header)
		if response.Code != http.StatusOK || response.Body.String() != "ten_1  pro key_1" {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
		if len(verifier.tokens) != 1 || verifier.tokens[0] != longToken || verifier.scopes[0] != "orders:read" {
			t.Errorf("%s: %d calls", name, len(verifier.tokens))
		}
	}
}

func TestRefusedPrincipalTokensHaveTheirStatuses(t *testing.T) {
	const invalidToken = `Bearer error="invalid_token"`
	failure := &tenantauth.Error{Kind: tenantauth.ErrUnavailable, Code: codes.Unavailable}
	for name, test := range map[string]struct {
		err             error
		status          int
		code, challenge string
		retryAfter      string
		logged          bool
	}{
		"invalid": {&tenantauth.PrincipalError{Kind: tenantauth.ErrInvalidPrincipal, Reason: "a reason"}, 401, "INVALID_PRINCIPAL", invalidToken, "", false},
		"scopes": {
			&tenantauth.Denied{Verdict: tenantauth.InsufficientScope, MissingScopes: []string{"a"}}, 403, "INSUFFICIENT_SCOPE",
			`Bearer error="insufficient_scope", scope="a"`, "", false,
		},
		"outdated":  {&tenantauth.PrincipalError{Kind: tenantauth.ErrOutdatedPrincipal, Reason: "a reason"}, 503, "OUTDATED_PRINCIPAL", "", "1", false},
		"undecided": {failure, 503, "UNDECIDED", "", "1", true},
	} {
		var log strings.Builder
		denied := 0
		auth := behindProxy(t, &verifierStub{err: test.err}, httpauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))),
			httpauth.WithOnDenied(func(*http.Request, tenantauth.Validation, error) { denied++ }))
		response := serve(auth, http.Header{"X-Tenant-Principal": {"token"}})
		header, body := response.Header(), rejection(t, name, response)
		if response.Code != test.status || body.Code != test.code || header.Get("WWW-Authenticate") != test.challenge ||
			header.Get("Retry-After") != test.retryAfter || (len(body.MissingScopes) > 0) != (test.status == 403) || denied != 1 {
			t.Errorf("%s: %d %+v %v, %d reported", name, response.Code, body, header, denied)
		}
		if (log.Len() > 0) != test.logged {
			t.Errorf("%s: logged %q", name, log.String())
		}
	}
}

func TestMissingOrAmbiguousPrincipalTokenIsRejected(t *testing.T) {
	for name, test := range map[string]struct {
		header http.Header
		status int
		code   string
	}{
		"none":      {bearer, 401, "NO_CREDENTIALS"},
		"empty":     {http.Header{"X-Tenant-Principal": {""}}, 401, "NO_CREDENTIALS"},
		"ambiguous": {http.Header{"X-Tenant-Principal": {"a", "b"}}, 400, "AMBIGUOUS_REQUEST"},
	} {
		verifier := &verifierStub{}
		response := serve(behindProxy(t, verifier), test.header)
		body := rejection(t, name, response)
		if response.Code != test.status || body.Code != test.code || len(verifier.tokens) != 0 || strings.Contains(body.Detail, "API key") {
			t.Errorf("%s: %d %+v", name, response.Code, body)
		}
	}
}

func TestPreflightNeedsNoPrincipalToken(t *testing.T) {
	request := httptest.NewRequest(http.MethodOptions, "/orders", nil)
	request.Header.Set("Origin", "https://app.example.com")
	request.Header.Set("Access-Control-Request-Method", "GET")
	request.Header.Set("X-Tenant-Principal", "")
	if response := answer(behindProxy(t, &verifierStub{}), request); response.Code != http.StatusTeapot {
		t.Errorf("%d", response.Code)
	}
}

func TestPrincipalMiddlewareRejectsInvalidOptions(t *testing.T) {
	var none *tenantauth.PrincipalVerifier
	for name, verifier := range map[string]httpauth.PrincipalVerifier{"nil": nil, "nil pointer": none} {
		if _, err := httpauth.NewPrincipal(verifier); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := httpauth.NewPrincipal(&verifierStub{}, httpauth.WithHeader("")); err == nil {
		t.Error("an invalid option was accepted")
	}
}
