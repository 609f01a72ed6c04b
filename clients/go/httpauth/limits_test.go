package httpauth_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/httpauth"
)

// consumer returns the same result for every key, and records its calls.
type consumer struct {
	stub
	result   tenantauth.ConsumeResult
	err      error
	requests []tenantauth.ConsumeRequest
}

func (c *consumer) Consume(_ context.Context, request tenantauth.ConsumeRequest) (tenantauth.ConsumeResult, error) {
	c.requests = append(c.requests, request)
	return c.result, c.err
}

func after(d time.Duration) *time.Duration { return &d }

// decided returns the result for a valid key.
func decided(verdict tenantauth.Verdict, limits ...tenantauth.LimitDecision) tenantauth.ConsumeResult {
	return tenantauth.ConsumeResult{
		Verdict: verdict, Limits: limits,
		Validation: tenantauth.SessionValidation{Validation: tenantauth.Validation{Verdict: tenantauth.Valid, TenantID: "ten_1", KeyID: "key_1"}},
	}
}

var (
	call     = tenantauth.Cost{Metric: "api.calls", Amount: 1}
	requests = tenantauth.LimitDecision{Name: "requests", Limit: 100, Remaining: 7, Window: time.Hour, ResetAfter: after(1_799_001 * time.Millisecond)}
	burst    = tenantauth.LimitDecision{Name: "burst", Limit: 10, Remaining: 9, Window: 3_334 * time.Millisecond, ResetAfter: after(0)}
	credits  = tenantauth.LimitDecision{Name: "credits", Limit: 500, Remaining: 0}
	planned  = tenantauth.LimitDecision{Name: "planned", Limit: 1, Exceeded: true, Shadow: true}
)

// exceeded returns a limit that denies.
func exceeded(limit tenantauth.LimitDecision, retryAfter *time.Duration) tenantauth.LimitDecision {
	limit.Exceeded, limit.Remaining, limit.RetryAfter = true, 0, retryAfter
	return limit
}

func TestAdmittedRequestGetsTheLimits(t *testing.T) {
	service := &consumer{result: decided(tenantauth.Valid, burst, credits, planned, requests)}
	auth := middleware(t, service, httpauth.WithCosts(call))
	var limits []tenantauth.LimitDecision
	handler := auth.Require("orders:read")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limits, _ = tenantauth.LimitsFrom(r.Context())
		principal, _ := tenantauth.PrincipalFrom(r.Context())
		_, _ = w.Write([]byte(principal.KeyID))
	}))
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/orders", nil)
	request.Header = bearer
	handler.ServeHTTP(recorder, request)
	header := recorder.Header()
	if recorder.Code != http.StatusOK || recorder.Body.String() != "key_1" || len(limits) != 4 || len(service.requests) != 1 || service.keys != nil {
		t.Fatalf("%d %s, %d limits, %d calls", recorder.Code, recorder.Body, len(limits), len(service.requests))
	}
	if policy := header.Get("RateLimit-Policy"); policy != `"burst";q=10;w=4, "credits";q=500, "requests";q=100;w=3600` {
		t.Error(policy)
	}
	if state := header.Get("RateLimit"); state != `"burst";r=9;t=0, "credits";r=0, "requests";r=7;t=1800` {
		t.Error(state)
	}
	query, ok := service.requests[0].Credential.(tenantauth.KeyQuery)
	if !ok || string(query.Key) != "ta_key" || query.Scopes[0] != "orders:read" || service.requests[0].Costs[0] != call || service.requests[0].ConsumeID != "" {
		t.Errorf("%+v", service.requests[0])
	}
}

func TestRequestThatExceedsALimitIsRejectedWithItsRetryDelay(t *testing.T) {
	for name, test := range map[string]struct {
		result           tenantauth.ConsumeResult
		code, retryAfter string
		detail, state    string
	}{
		"quota":      {decided(tenantauth.QuotaExceeded, exceeded(requests, after(90_001*time.Millisecond))), "QUOTA_EXCEEDED", "91", "requests.", `"requests";r=0;t=1800`},
		"rate":       {decided(tenantauth.RateLimited, exceeded(burst, after(50*time.Millisecond)), requests), "RATE_LIMITED", "1", "burst.", `"burst";r=0;t=0, "requests";r=7;t=1800`},
		"at once":    {decided(tenantauth.RateLimited, exceeded(burst, after(0))), "RATE_LIMITED", "1", "burst.", `"burst";r=0;t=0`},
		"two limits": {decided(tenantauth.QuotaExceeded, exceeded(burst, after(time.Second)), exceeded(requests, after(time.Minute))), "QUOTA_EXCEEDED", "60", "burst, requests.", `"burst";r=0;t=0, "requests";r=0;t=1800`},
		"credits":    {decided(tenantauth.QuotaExceeded, exceeded(credits, nil), exceeded(burst, after(time.Second)), planned), "QUOTA_EXCEEDED", "", "credits, burst.", `"credits";r=0, "burst";r=0;t=0`},
	} {
		service := &consumer{result: test.result}
		var denied tenantauth.Validation
		var inContext int
		auth := middleware(t, service, httpauth.WithCosts(call), httpauth.WithOnDenied(func(r *http.Request, validation tenantauth.Validation, _ error) {
			limits, _ := tenantauth.LimitsFrom(r.Context())
			denied, inContext = validation, len(limits)
		}))
		response := serve(auth, bearer)
		body, header := rejection(t, name, response), response.Header()
		if response.Code != http.StatusTooManyRequests || body.Code != test.code || header.Get("Retry-After") != test.retryAfter ||
			!strings.HasSuffix(body.Detail, test.detail) || header.Get("RateLimit") != test.state || header.Get("RateLimit-Policy") == "" {
			t.Errorf("%s: %d %+v %v", name, response.Code, body, header)
		}
		if denied.Verdict != test.result.Verdict || denied.TenantID != "ten_1" || inContext != len(test.result.Limits) {
			t.Errorf("%s: %+v reported, with %d limits", name, denied, inContext)
		}
	}
}

func TestRequestWithCostsThatIsNotAdmittedIsRejectedLikeAnyOther(t *testing.T) {
	revoked := tenantauth.ConsumeResult{Verdict: tenantauth.Revoked, Validation: tenantauth.SessionValidation{Validation: tenantauth.Validation{Verdict: tenantauth.Revoked}}}
	failed := func(kind error, reason, field string) *consumer {
		return &consumer{err: &tenantauth.Error{Kind: kind, Reason: reason, RetryAfter: 3 * time.Second, Violations: []tenantauth.Violation{{Field: field}}}}
	}
	for name, test := range map[string]struct {
		service          *consumer
		status           int
		code, retryAfter string
	}{
		"revoked":   {&consumer{result: revoked}, 401, "REVOKED", ""},
		"undecided": {failed(tenantauth.ErrUnavailable, "LIMIT_UNDECIDED", ""), 503, "UNDECIDED", "3"},
		"bad key":   {failed(tenantauth.ErrInvalid, "", "credential.key.key"), 401, "MALFORMED", ""},
		"bad cost":  {failed(tenantauth.ErrInvalid, "", "costs[0].metric"), 503, "UNDECIDED", "3"},
	} {
		response := serve(middleware(t, test.service, httpauth.WithCosts(call)), bearer)
		body := rejection(t, name, response)
		if response.Code != test.status || body.Code != test.code || response.Header().Get("Retry-After") != test.retryAfter || response.Header().Get("RateLimit") != "" {
			t.Errorf("%s: %d %+v %v", name, response.Code, body, response.Header())
		}
	}
}

func TestCostsMayDependOnTheRequest(t *testing.T) {
	service := &consumer{result: decided(tenantauth.Valid, requests)}
	service.validation = tenantauth.Validation{Verdict: tenantauth.Valid}
	auth := middleware(t, service, httpauth.WithExempt("/healthz"), httpauth.WithCostsFunc(func(r *http.Request) []tenantauth.Cost {
		if r.Method == http.MethodGet {
			return nil
		}
		return []tenantauth.Cost{{Metric: "bytes", Amount: r.ContentLength}}
	}))
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		request := httptest.NewRequest(method, path, strings.NewReader(body))
		request.Header = http.Header{"Authorization": {"Bearer ta_key"}}
		if method == http.MethodOptions {
			request.Header = http.Header{"Origin": {"https://a.example"}, "Access-Control-Request-Method": {"GET"}}
		}
		return answer(auth, request)
	}
	if response := ask(http.MethodGet, "/orders", ""); response.Code != 200 || response.Header().Get("RateLimit") != "" || len(service.requests) != 0 || len(service.keys) != 1 {
		t.Errorf("without costs: %d, %d calls", response.Code, len(service.requests))
	}
	if response := ask(http.MethodPost, "/orders", "12345"); response.Code != 200 || response.Header().Get("RateLimit") == "" || service.requests[0].Costs[0].Amount != 5 {
		t.Errorf("with costs: %d, %+v", response.Code, service.requests)
	}
	ask(http.MethodPost, "/healthz", "12345")
	ask(http.MethodOptions, "/orders", "")
	if len(service.requests) != 1 {
		t.Errorf("%d requests without a key had costs", len(service.requests)-1)
	}
}

func TestInvalidCostsAreRejectedByName(t *testing.T) {
	for name, test := range map[string]struct {
		service httpauth.Validator
		option  httpauth.Option
		want    string
	}{
		"none":         {&consumer{}, httpauth.WithCosts(), "at least one cost"},
		"no metric":    {&consumer{}, httpauth.WithCosts(tenantauth.Cost{Amount: 1}), "a metric and an amount"},
		"no amount":    {&consumer{}, httpauth.WithCosts(tenantauth.Cost{Metric: "api.calls"}), "a metric and an amount"},
		"no function":  {&consumer{}, httpauth.WithCostsFunc(nil), "WithCostsFunc(nil)"},
		"cannot count": {&stub{}, httpauth.WithCosts(call), "cannot take amounts from limits"},
	} {
		if _, err := httpauth.New(test.service, test.option); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := httpauth.NewPrincipal(&verifierStub{}, httpauth.WithCosts(call)); err == nil || !strings.Contains(err.Error(), "cannot take amounts") {
		t.Errorf("principal tokens: %v", err)
	}
}
