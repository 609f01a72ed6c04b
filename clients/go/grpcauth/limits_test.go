package grpcauth_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
	"github.com/tenant-auth/tenant-auth/clients/go/grpcauth"
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

func decided(verdict tenantauth.Verdict, limits ...tenantauth.LimitDecision) tenantauth.ConsumeResult {
	return tenantauth.ConsumeResult{
		Verdict: verdict, Limits: limits,
		Validation: tenantauth.SessionValidation{Validation: tenantauth.Validation{Verdict: tenantauth.Valid, TenantID: "ten_1", KeyID: "key_1"}},
	}
}

var call = tenantauth.Cost{Metric: "api.calls", Amount: 1}

// refusal is what the details of a status say.
type refusal struct {
	reason, domain string
	retry          time.Duration
	violations     []string
}

func refusalOf(err error) (made refusal) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			made.reason, made.domain = detail.GetReason(), detail.GetDomain()
		case *errdetails.RetryInfo:
			made.retry = detail.GetRetryDelay().AsDuration()
		case *errdetails.QuotaFailure:
			for _, violation := range detail.GetViolations() {
				made.violations = append(made.violations, violation.GetSubject()+" "+violation.GetDescription())
			}
		}
	}
	return made
}

func TestCallThatExceedsALimitIsRejectedWithItsDetails(t *testing.T) {
	minute := time.Minute
	requests := tenantauth.LimitDecision{Name: "requests", Metric: "api.calls", Exceeded: true, RetryAfter: &minute}
	credits := tenantauth.LimitDecision{Name: "credits", Metric: "tokens", Exceeded: true}
	planned := tenantauth.LimitDecision{Name: "planned", Metric: "api.calls", Exceeded: true, Shadow: true}
	const ofRequests = "tenant:ten_1 The limit requests of the metric api.calls is exceeded."
	for name, test := range map[string]struct {
		service *consumer
		code    codes.Code
		want    refusal
	}{
		"quota": {&consumer{result: decided(tenantauth.QuotaExceeded, planned, requests)}, codes.ResourceExhausted,
			refusal{"QUOTA_EXCEEDED", "tenantauth", minute, []string{ofRequests}}},
		"rate": {&consumer{result: decided(tenantauth.RateLimited, requests)}, codes.ResourceExhausted,
			refusal{"RATE_LIMITED", "tenantauth", minute, []string{ofRequests}}},
		"credits": {&consumer{result: decided(tenantauth.QuotaExceeded, credits, requests)}, codes.ResourceExhausted,
			refusal{"QUOTA_EXCEEDED", "tenantauth", 0, []string{"tenant:ten_1 The limit credits of the metric tokens is exceeded.", ofRequests}}},
		"undecided": {&consumer{err: &tenantauth.Error{Kind: tenantauth.ErrUnavailable, Reason: "LIMIT_UNDECIDED", RetryAfter: 2 * time.Second}}, codes.Unavailable,
			refusal{"UNDECIDED", "tenantauth", 2 * time.Second, nil}},
		"revoked": {&consumer{result: tenantauth.ConsumeResult{Verdict: tenantauth.Revoked}}, codes.Unauthenticated, refusal{"REVOKED", "tenantauth", 0, nil}},
	} {
		client, _ := serve(t, interceptor(t, test.service, grpcauth.WithCosts(call)))
		err := check(client, t, "authorization", "Bearer ta_key")
		got := refusalOf(err)
		if status.Code(err) != test.code || got.reason != test.want.reason || got.domain != test.want.domain || got.retry != test.want.retry ||
			strings.Join(got.violations, "|") != strings.Join(test.want.violations, "|") {
			t.Errorf("%s: %v %+v", name, status.Code(err), got)
		}
	}
}

func TestAdmittedCallHasItsCostsOnce(t *testing.T) {
	service := &consumer{result: decided(tenantauth.Valid, tenantauth.LimitDecision{Name: "requests"})}
	service.validation = tenantauth.Validation{Verdict: tenantauth.Valid}
	costs := grpcauth.WithCostsFunc(func(ctx context.Context, method string, request any) []tenantauth.Cost {
		if check, ok := request.(*healthv1.HealthCheckRequest); ok {
			if check.GetService() == "" {
				return nil
			}
			return []tenantauth.Cost{{Metric: check.GetService(), Amount: 2}}
		}
		return []tenantauth.Cost{{Metric: method[strings.LastIndex(method, "/")+1:], Amount: 1}}
	})
	client, principals := serve(t, interceptor(t, service, costs))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer ta_key")
	for _, of := range []string{"", "tokens"} {
		if _, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: of}); err != nil {
			t.Fatal(err)
		}
		<-principals
	}
	stream, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = stream.Recv()
	if principal := <-principals; principal.KeyID != "key_1" {
		t.Errorf("%+v", principal)
	}
	if len(service.keys) != 1 || len(service.requests) != 2 || service.requests[0].Costs[0].Metric != "tokens" || service.requests[1].Costs[0].Metric != "Watch" {
		t.Errorf("%d validations, %+v", len(service.keys), service.requests)
	}
}

func TestInvalidCostsAreRejectedByName(t *testing.T) {
	for name, test := range map[string]struct {
		service grpcauth.Validator
		option  grpcauth.Option
		want    string
	}{
		"none":         {&consumer{}, grpcauth.WithCosts(), "at least one cost"},
		"no amount":    {&consumer{}, grpcauth.WithCosts(tenantauth.Cost{Metric: "api.calls"}), "a metric and an amount"},
		"no function":  {&consumer{}, grpcauth.WithCostsFunc(nil), "WithCostsFunc(nil)"},
		"cannot count": {&stub{}, grpcauth.WithCosts(call), "cannot take amounts from limits"},
	} {
		if _, err := grpcauth.New(test.service, test.option); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
