package fake

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// usagePage is small, so that sums have several pages.
const usagePage = 2

type usage struct {
	tenantauthv1.UnimplementedUsageServiceServer

	usageMu sync.Mutex
	batches map[string][]*tenantauthv1.UsageEvent
	order   []string
}

func (u *usage) init() {
	u.batches = map[string][]*tenantauthv1.UsageEvent{}
}

// Recorded returns the counted events by request id, and the ids in the order of arrival.
func (u *usage) Recorded() (ids []string, events map[string][]*tenantauthv1.UsageEvent) {
	u.usageMu.Lock()
	defer u.usageMu.Unlock()
	events = map[string][]*tenantauthv1.UsageEvent{}
	for id, batch := range u.batches {
		events[id] = slices.Clone(batch)
	}
	return slices.Clone(u.order), events
}

// RecordUsage counts a request once. It rejects events of the metric "never". For events of "named" and "nameless" it
// rejects the whole request, with or without naming the event.
func (u *usage) RecordUsage(_ context.Context, request *tenantauthv1.RecordUsageRequest) (*tenantauthv1.RecordUsageResponse, error) {
	if request.GetRequestId() == "" {
		return nil, Invalid("request_id", "must not be empty")
	}
	u.usageMu.Lock()
	defer u.usageMu.Unlock()
	reply := &tenantauthv1.RecordUsageResponse{}
	var accepted []*tenantauthv1.UsageEvent
	for index, event := range request.GetEvents() {
		switch event.GetMetric() {
		case "never":
			why := status.New(codes.InvalidArgument, "no such metric").Proto()
			reply.Rejected = append(reply.Rejected, &tenantauthv1.RejectedUsageEvent{Index: int32(index), Error: why})
		case "named":
			return nil, Invalid(fmt.Sprintf("events[%d].metric", index), "rejected by its name")
		case "nameless":
			return nil, status.Error(codes.InvalidArgument, "the request is malformed")
		default:
			accepted = append(accepted, event)
		}
	}
	reply.Accepted = int32(len(accepted))
	_, reply.AlreadyRecorded = u.batches[request.GetRequestId()]
	if !reply.GetAlreadyRecorded() {
		u.batches[request.GetRequestId()] = accepted
		u.order = append(u.order, request.GetRequestId())
	}
	return reply, nil
}

// QueryUsage returns each event of the tenant as a sum, in small pages. The token is an index.
func (u *usage) QueryUsage(_ context.Context, request *tenantauthv1.QueryUsageRequest) (*tenantauthv1.QueryUsageResponse, error) {
	if request.GetStartTime() == nil {
		return nil, Invalid("start_time", "is required")
	}
	u.usageMu.Lock()
	defer u.usageMu.Unlock()
	var sums []*tenantauthv1.UsageSum
	for _, id := range u.order {
		for _, event := range u.batches[id] {
			if event.GetTenantId() != request.GetTenantId() || request.GetMetric() != "" && event.GetMetric() != request.GetMetric() {
				continue
			}
			sums = append(sums, &tenantauthv1.UsageSum{
				Metric:      event.GetMetric(),
				BucketStart: timestamppb.New(event.GetOccurredAt().AsTime()),
				Quantity:    event.GetQuantity(),
			})
		}
	}
	position := 0
	if request.GetPageToken() != "" {
		var err error
		if position, err = strconv.Atoi(request.GetPageToken()); err != nil {
			return nil, Invalid("page_token", "is not from this list")
		}
	}
	end := min(len(sums), position+usagePage)
	reply := &tenantauthv1.QueryUsageResponse{Sums: sums[position:end]}
	if end < len(sums) {
		reply.NextPageToken = strconv.Itoa(end)
	}
	return reply, nil
}
