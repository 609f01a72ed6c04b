package service

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// DemoTenant is the tenant of [Service.Key].
const DemoTenant = "ten_demo"

// SetQuota sets a quota per hour of the demo tenant, and waits until the service applies it.
func SetQuota(t testing.TB, conn grpc.ClientConnInterface, name, metric string, amount int64) {
	t.Helper()
	SetLimit(t, conn, &tenantauthv1.Limit{Name: name, Metric: metric, Rule: &tenantauthv1.Limit_Quota{Quota: &tenantauthv1.Quota{
		Amount: amount, Window: &tenantauthv1.Quota_Rolling{Rolling: durationpb.New(time.Hour)},
	}}})
}

// SetLimit sets a limit, of the demo tenant unless it has another subject, and waits until the service applies it.
func SetLimit(t testing.TB, conn grpc.ClientConnInterface, limit *tenantauthv1.Limit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if limit.Subject == nil {
		limit.Subject = &tenantauthv1.LimitSubject{Subject: &tenantauthv1.LimitSubject_TenantId{TenantId: DemoTenant}}
	}
	set, err := tenantauthv1.NewAdminServiceClient(conn).SetLimit(ctx, &tenantauthv1.SetLimitRequest{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	state, err := tenantauthv1.NewInfoServiceClient(conn).WaitForRevision(ctx, &tenantauthv1.WaitForRevisionRequest{
		Revision: set.GetRevision(), Timeout: durationpb.New(10 * time.Second),
	})
	if err != nil || !state.GetApplied() {
		t.Fatalf("the limit is not applied: %v, %v", state, err)
	}
}
