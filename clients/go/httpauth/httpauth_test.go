package httpauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

// stub returns the same result for every key, and records its calls.
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

func middleware(t *testing.T, service httpauth.Validator, options ...httpauth.Option) *httpauth.Middleware {
	t.Helper()
	auth, err := httpauth.New(service, append([]httpauth.Option{httpauth.WithLogger(slog.New(slog.DiscardHandler))}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return auth
}

func serve(auth *httpauth.Middleware, header http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, "/orders", nil)
	request.Header = header
	return answer(auth, request)
}

func answer(auth *httpauth.Middleware, request *http.Request) *httptest.ResponseRecorder {
	handler := auth.Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		principal, ok := tenantauth.PrincipalFrom(r.Context())
		if !ok {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		_, _ = w.Write([]byte(principal.TenantID + " " + principal.TenantName + " " + principal.Plan + " " + principal.KeyID))
	}))
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	MissingScopes             []string `json:"missing_scopes"`
}

// rejection reads a rejection and checks what all rejections have in common.
func rejection(t *testing.T, name string, response *httptest.ResponseRecorder) problem {
	t.Helper()
	var body problem
	err := json.Unmarshal(response.Body.Bytes(), &body)
	header := response.Header()
	if err != nil || body.Type != "about:blank" || body.Title != http.StatusText(response.Code) || body.Status != response.Code || body.Detail == "" ||
		header.Get("Content-Type") != "application/problem+json" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %v %s", name, header, response.Body)
	}
	return body
}

var bearer = http.Header{"Authorization": {"Bearer ta_key"}}

func TestValidKeyIsAdmittedWithItsPrincipal(t *testing.T) {
	validation := tenantauth.Validation{
		Verdict: tenantauth.Valid, TenantID: "ten_1", TenantName: "Acme", Plan: "pro", KeyID: "key_1", Scopes: []string{"orders:read"},
	}
	for name, test := range map[string]struct {
		header  http.Header
		options []httpauth.Option
	}{
		"bearer":           {bearer, nil},
		"in other letters": {http.Header{"Authorization": {"bEARER  ta_key "}}, nil},
		"custom header":    {http.Header{"X-Api-Key": {"ta_key"}}, []httpauth.Option{httpauth.WithHeader("x-api-key")}},
	} {
		service := &stub{validation: validation}
		response := serve(middleware(t, service, test.options...), test.header)
		if response.Code != http.StatusOK || response.Body.String() != "ten_1 Acme pro key_1" {
			t.Errorf("%s: %d %s", name, response.Code, response.Body)
		}
		if len(service.keys) != 1 || string(service.keys[0]) != "ta_key" || service.scopes[0] != "orders:read" {
			t.Errorf("%s: %d calls", name, len(service.keys))
		}
	}
}

func TestMissingOrAmbiguousKeyIsRejectedWithoutACall(t *testing.T) {
	own := []httpauth.Option{httpauth.WithHeader("X-API-Key")}
	for name, test := range map[string]struct {
		header    http.Header
		options   []httpauth.Option
		status    int
		code      string
		challenge string
	}{
		"none":                      {http.Header{}, nil, 401, "NO_CREDENTIALS", "Bearer"},
		"another scheme":            {http.Header{"Authorization": {"Basic dGE6a2V5"}}, nil, 401, "NO_CREDENTIALS", "Bearer"},
		"empty":                     {http.Header{"Authorization": {"Bearer "}}, nil, 401, "NO_CREDENTIALS", "Bearer"},
		"no scheme":                 {http.Header{"Authorization": {"ta_key"}}, nil, 401, "NO_CREDENTIALS", "Bearer"},
		"in another header":         {bearer, own, 401, "NO_CREDENTIALS", "Bearer"},
		"two":                       {http.Header{"Authorization": {"Bearer one", "Bearer two"}}, nil, 400, "AMBIGUOUS_REQUEST", ""},
		"the same twice":            {http.Header{"Authorization": {"Bearer one", "Bearer one"}}, nil, 400, "AMBIGUOUS_REQUEST", ""},
		"two, and one is another's": {http.Header{"Authorization": {"Bearer one", "Basic two"}}, nil, 400, "AMBIGUOUS_REQUEST", ""},
		"custom header twice":       {http.Header{"X-Api-Key": {"one", "two"}}, own, 400, "AMBIGUOUS_REQUEST", ""},
		"another header twice":      {http.Header{"X-Api-Key": {"one"}, "Authorization": {"Bearer a", "Bearer b"}}, own, 400, "AMBIGUOUS_REQUEST", ""},
		"two sessions":              {http.Header{"Authorization": {"Bearer one"}, "Mcp-Session-Id": {"a", "b"}}, nil, 400, "AMBIGUOUS_REQUEST", ""},
		"joined":                    {http.Header{"Authorization": {"Bearer one, Bearer two"}}, nil, 401, "MALFORMED", `Bearer error="invalid_token"`},
		"a blank":                   {http.Header{"X-Api-Key": {"one two"}}, own, 401, "MALFORMED", `Bearer error="invalid_token"`},
		"no text":                   {http.Header{"X-Api-Key": {"ta_\xff"}}, own, 401, "MALFORMED", `Bearer error="invalid_token"`},
		"too long":                  {http.Header{"X-Api-Key": {strings.Repeat("a", 513)}}, own, 401, "MALFORMED", `Bearer error="invalid_token"`},
	} {
		service := &stub{}
		response := serve(middleware(t, service, test.options...), test.header)
		body := rejection(t, name, response)
		if response.Code != test.status || body.Code != test.code || response.Header().Get("WWW-Authenticate") != test.challenge || service.keys != nil {
			t.Errorf("%s: %d %s %q, %d calls", name, response.Code, body.Code, response.Header().Get("WWW-Authenticate"), len(service.keys))
		}
	}
}

func TestPreflightsAndExemptPathsNeedNoKey(t *testing.T) {
	preflight := func(header ...string) *http.Request {
		request := httptest.NewRequest(http.MethodOptions, "/orders", nil)
		request.Header.Set("Origin", "https://app.example.com")
		request.Header.Set("Access-Control-Request-Method", "POST")
		for index := 0; index < len(header); index += 2 {
			request.Header.Add(header[index], header[index+1])
		}
		return request
	}
	options := httptest.NewRequest(http.MethodOptions, "/orders", nil)
	get := func(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }
	for name, test := range map[string]struct {
		request *http.Request
		options []httpauth.Option
		status  int
	}{
		"a preflight":                {preflight(), nil, http.StatusTeapot},
		"preflight not allowed":      {preflight(), []httpauth.Option{httpauth.WithoutPreflight()}, 401},
		"a preflight with a bad key": {preflight("Authorization", "Bearer ta_key"), nil, 401},
		"a preflight with two":       {preflight("Authorization", "Bearer a", "Authorization", "Bearer b"), nil, 400},
		"other options":              {options, nil, 401},
		"an exempt path":             {get("/healthz"), []httpauth.Option{httpauth.WithExempt("/healthz", "/readyz")}, http.StatusTeapot},
		"a path below":               {get("/healthz/deep"), []httpauth.Option{httpauth.WithExempt("/healthz")}, 401},
		"the root":                   {get("/"), []httpauth.Option{httpauth.WithExempt("/healthz")}, 401},
	} {
		service := &stub{validation: tenantauth.Validation{Verdict: tenantauth.Unknown}}
		if response := answer(middleware(t, service, test.options...), test.request); response.Code != test.status {
			t.Errorf("%s: %d", name, response.Code)
		}
	}
}

func TestInvalidMiddlewareOptionIsRejected(t *testing.T) {
	for name, options := range map[string][]httpauth.Option{
		"no header":      {httpauth.WithHeader("")},
		"no headers":     {httpauth.WithHeader()},
		"no header name": {httpauth.WithHeader("X API Key")},
		"no path":        {httpauth.WithExempt("healthz")},
		"no function":    {httpauth.WithOnDenied(nil)},
		"no logger":      {httpauth.WithLogger(nil)},
		"no network":     {httpauth.WithTrustedProxies("10.0.0.0/8", "proxy.example.com")},
		"vague network":  {httpauth.WithTrustedProxies("10.0.0.1/8")},
		"no address":     {httpauth.WithClientAddressHeader("")},
		"no header text": {httpauth.WithClientAddressHeader("X Real IP")},
		"nil":            {nil},
	} {
		if _, err := httpauth.New(&stub{}, options...); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	// A client that could not be created is a nil pointer in a non-nil interface.
	for _, none := range []httpauth.Validator{nil, (*tenantauth.Client)(nil)} {
		if _, err := httpauth.New(none); err == nil {
			t.Error("nil validator: want an error")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("invalid scope: want a panic")
		}
	}()
	middleware(t, &stub{}).Require("Orders Read")
}

func TestUndecidedIsLoggedOncePerSecondWithoutTheKey(t *testing.T) {
	var log bytes.Buffer
	service := &stub{err: &tenantauth.Error{Kind: tenantauth.ErrUnavailable, Reason: "DATABASE_TIMED_OUT", RequestID: "request-7"}}
	auth := middleware(t, service, httpauth.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for range 100 {
		serve(auth, bearer)
	}
	text := log.String()
	if lines := strings.Count(text, "\n"); lines < 1 || lines > 10 || !strings.Contains(text, "request-7") || !strings.Contains(text, "DATABASE_TIMED_OUT") || strings.Contains(text, "ta_key") {
		t.Errorf("%s", text)
	}
}

func TestEachResultHasItsStatus(t *testing.T) {
	const invalidToken = `Bearer error="invalid_token"`
	failure := func(kind error, code codes.Code) error { return &tenantauth.Error{Kind: kind, Code: code} }
	verdict := func(verdict tenantauth.Verdict) *stub {
		return &stub{validation: tenantauth.Validation{Verdict: verdict}}
	}
	violation := func(field string) *stub {
		return &stub{err: &tenantauth.Error{Kind: tenantauth.ErrInvalid, Violations: []tenantauth.Violation{{Field: field}}}}
	}
	later := &tenantauth.Error{Kind: tenantauth.ErrUnavailable, RetryAfter: 1_500 * time.Millisecond}
	sooner := &tenantauth.Error{Kind: tenantauth.ErrUnavailable, RetryAfter: 15 * time.Millisecond}
	lacking := verdict(tenantauth.InsufficientScope)
	lacking.validation.MissingScopes = []string{"a", "b"}
	for name, test := range map[string]struct {
		service                     *stub
		status                      int
		code, challenge, retryAfter string
	}{
		"unknown":            {verdict(tenantauth.Unknown), 401, "UNKNOWN", invalidToken, ""},
		"malformed":          {verdict(tenantauth.Malformed), 401, "MALFORMED", invalidToken, ""},
		"expired":            {verdict(tenantauth.Expired), 401, "EXPIRED", invalidToken, ""},
		"revoked":            {verdict(tenantauth.Revoked), 401, "REVOKED", invalidToken, ""},
		"suspended":          {verdict(tenantauth.TenantSuspended), 403, "TENANT_SUSPENDED", "", ""},
		"disabled":           {verdict(tenantauth.Disabled), 403, "DISABLED", "", ""},
		"no address":         {verdict(tenantauth.AddressRequired), 403, "ADDRESS_REQUIRED", "", ""},
		"another network":    {verdict(tenantauth.AddressNotAllowed), 403, "ADDRESS_NOT_ALLOWED", "", ""},
		"lacking":            {lacking, 403, "INSUFFICIENT_SCOPE", `Bearer error="insufficient_scope", scope="a b"`, ""},
		"quota":              {verdict(tenantauth.QuotaExceeded), 429, "QUOTA_EXCEEDED", "", "1"},
		"rate":               {verdict(tenantauth.RateLimited), 429, "RATE_LIMITED", "", "1"},
		"unbound":            {verdict(tenantauth.Unbound), 404, "UNBOUND", "", ""},
		"session expired":    {verdict(tenantauth.SessionExpired), 404, "SESSION_EXPIRED", "", ""},
		"mismatch":           {verdict(tenantauth.TenantMismatch), 404, "TENANT_MISMATCH", "", ""},
		"unknown verdict":    {verdict(42), 403, "UNRECOGNIZED(42)", "", ""},
		"nothing":            {verdict(0), 403, "UNRECOGNIZED(0)", "", ""},
		"unavailable":        {&stub{err: failure(tenantauth.ErrUnavailable, codes.Unavailable)}, 503, "UNDECIDED", "", "1"},
		"unavailable, when":  {&stub{err: later}, 503, "UNDECIDED", "", "2"},
		"unavailable, soon":  {&stub{err: sooner}, 503, "UNDECIDED", "", "1"},
		"overloaded":         {&stub{err: failure(tenantauth.ErrOverloaded, codes.ResourceExhausted)}, 503, "UNDECIDED", "", "1"},
		"deadline":           {&stub{err: failure(tenantauth.ErrDeadline, codes.DeadlineExceeded)}, 503, "UNDECIDED", "", "1"},
		"server's own token": {&stub{err: failure(tenantauth.ErrUnauthenticated, codes.Unauthenticated)}, 503, "UNDECIDED", "", "1"},
		"server's own role":  {&stub{err: failure(tenantauth.ErrPermissionDenied, codes.PermissionDenied)}, 503, "UNDECIDED", "", "1"},
		"a defect":           {&stub{err: failure(tenantauth.ErrOther, codes.Internal)}, 503, "UNDECIDED", "", "1"},
		"any error":          {&stub{err: errors.New("any error")}, 503, "UNDECIDED", "", "1"},
		"closed":             {&stub{err: failure(tenantauth.ErrClosed, codes.FailedPrecondition)}, 503, "UNDECIDED", "", "1"},
		"no key at all":      {violation("key"), 401, "MALFORMED", invalidToken, ""},
		"no such scope":      {violation("required_scopes[0]"), 503, "UNDECIDED", "", "1"},
		"no such address":    {violation("client_address"), 503, "UNDECIDED", "", "1"},
	} {
		denied := 0
		auth := middleware(t, test.service, httpauth.WithOnDenied(func(*http.Request, tenantauth.Validation, error) { denied++ }))
		response := serve(auth, bearer)
		header, body := response.Header(), rejection(t, name, response)
		if response.Code != test.status || body.Code != test.code || header.Get("WWW-Authenticate") != test.challenge ||
			header.Get("Retry-After") != test.retryAfter || denied != 1 || len(body.MissingScopes) != len(test.service.validation.MissingScopes) {
			t.Errorf("%s: %d %+v %v, %d reported", name, response.Code, body, header, denied)
		}
	}
}
