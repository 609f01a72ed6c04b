package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/fake"
	"github.com/tenant-auth/tenant-auth/clients/go/internal/service"
)

const jobs = `{"id":"1","key":%q,"text":"count these four words"}
{"id":"2","key":"unknown-key","text":"not these"}
`

func TestJobsAreProcessedAndCounted(t *testing.T) {
	auth := fake.Start(t)
	auth.Put("good", fake.Valid("key_1", "demo:write"))
	var results bytes.Buffer
	if err := run(t.Context(), auth.Address(), time.Minute, strings.NewReader(fmt.Sprintf(jobs, "good")), &results); err != nil {
		t.Fatal(err)
	}
	want := `{"id":"1","tenant_id":"ten_1","words":4}` + "\n" + `{"id":"2","denied":"UNKNOWN"}` + "\n"
	if results.String() != want {
		t.Errorf("%s", &results)
	}
	ids, batches := auth.Recorded()
	if len(ids) != 1 || len(batches[ids[0]]) != 1 {
		t.Fatalf("%v", batches)
	}
	if event := batches[ids[0]][0]; event.GetTenantId() != "ten_1" || event.GetMetric() != "words.counted" || event.GetQuantity() != 4 {
		t.Errorf("%v", event)
	}
}

func TestOutageNeitherDeniesNorLosesJobs(t *testing.T) {
	auth := fake.Start(t)
	auth.Stop()
	var results bytes.Buffer
	err := run(t.Context(), auth.Address(), 50*time.Millisecond, strings.NewReader(fmt.Sprintf(jobs, "good")), &results)
	if err == nil || !strings.Contains(err.Error(), "job 1: tenant-auth: ") || results.Len() > 0 {
		t.Errorf("%v, %s", err, &results)
	}
}

func TestRealServiceDecidesJobs(t *testing.T) {
	real := service.Start(t)
	var results bytes.Buffer
	// Whether the service counts usage depends on its version. The jobs are processed in both cases.
	err := run(t.Context(), real.Address, 2*time.Second, strings.NewReader(fmt.Sprintf(jobs, real.Key)), &results)
	want := `{"id":"1","tenant_id":"ten_demo","words":4}` + "\n" + `{"id":"2","denied":"UNKNOWN"}` + "\n"
	if results.String() != want {
		t.Errorf("%s", &results)
	}
	if err != nil && !strings.Contains(err.Error(), "usage not sent: 1 events with request id") {
		t.Errorf("%v", err)
	}
}
