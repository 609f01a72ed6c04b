package tenantauth

import (
	"context"
	"crypto/rand"
	"iter"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tenant-auth/tenant-auth/clients/go/tenantauthv1"
)

// UsageEvent is one usage event.
type UsageEvent struct {
	// TenantID is the id of the tenant that consumed something.
	TenantID string
	// Metric is the name of the metric, in lower case, such as api.calls.
	Metric string
	// Quantity is the quantity in the unit of the metric; not negative.
	Quantity int64
	// At is the time of the event. If zero, the time of arrival at the server, or for a [Recorder] the time of
	// recording.
	At time.Time
}

// UsageBatch is a set of events with one request id. After a failure, send the same events with the same id again: they
// are counted once.
type UsageBatch struct {
	// RequestID identifies this set of events. If empty, the client generates one; the call can then not be repeated
	// safely.
	RequestID string
	// Events are the events: 1 to 500.
	Events []UsageEvent
}

// UsageReceipt is the result of recording a batch.
type UsageReceipt struct {
	// Accepted is the number of events that are counted, by this call or by an earlier one with the same id.
	Accepted int
	// Rejected are the events that are rejected for good.
	Rejected []RejectedUsage
	// AlreadyRecorded reports whether an earlier call with the same id had already recorded the events.
	AlreadyRecorded bool
}

// RejectedUsage is an event that is rejected for good.
type RejectedUsage struct {
	// Index is the index of the event in the batch.
	Index int
	// Err is the reason.
	Err error
}

// RecordUsage records events. If it returns no error, the events are committed or rejected; see [UsageReceipt].
func (c *Client) RecordUsage(ctx context.Context, batch UsageBatch) (UsageReceipt, error) {
	if err := c.gate.enter(); err != nil {
		return UsageReceipt{}, err
	}
	defer c.gate.leave()
	return c.recordUsage(ctx, batch)
}

func (c *Client) recordUsage(ctx context.Context, batch UsageBatch) (UsageReceipt, error) {
	request := &tenantauthv1.RecordUsageRequest{RequestId: batch.RequestID}
	if request.RequestId == "" {
		request.RequestId = rand.Text()
	}
	for _, event := range batch.Events {
		request.Events = append(request.Events, &tenantauthv1.UsageEvent{
			TenantId:   event.TenantID,
			Metric:     event.Metric,
			Quantity:   event.Quantity,
			OccurredAt: timestamp(event.At),
		})
	}
	reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.RecordUsageRequest, *tenantauthv1.RecordUsageResponse]{
		call: c.usage.RecordUsage, request: request,
	})
	if err != nil {
		return UsageReceipt{}, err
	}
	receipt := UsageReceipt{Accepted: int(reply.GetAccepted()), AlreadyRecorded: reply.GetAlreadyRecorded()}
	for _, rejected := range reply.GetRejected() {
		why := errorFrom(status.FromProto(rejected.GetError()), "", nil)
		receipt.Rejected = append(receipt.Rejected, RejectedUsage{Index: int(rejected.GetIndex()), Err: why})
	}
	return receipt, nil
}

// Bucket is the width of the time buckets over which usage is summed, in UTC.
type Bucket int32

// The widths of time buckets.
const (
	// Hour sums by hour.
	Hour = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_HOUR)
	// Day sums by day; the default.
	Day = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_DAY)
	// Month sums by calendar month.
	Month = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_MONTH)
)

// UsageQuery selects the usage to sum.
type UsageQuery struct {
	// TenantID is the id of the tenant.
	TenantID string
	// Metric is the name of one metric. If empty, all metrics.
	Metric string
	// Start is the start of the time range, inclusive.
	Start time.Time
	// End is the end of the time range, exclusive.
	End time.Time
	// Bucket is the width of the time buckets.
	Bucket Bucket
}

// UsageSum is the sum of one metric over one time bucket.
type UsageSum struct {
	// Metric is the name of the metric.
	Metric string
	// BucketStart is the start of the bucket.
	BucketStart time.Time
	// Quantity is the sum.
	Quantity int64
}

// QueryUsage iterates over the usage sums of a tenant, ordered by time and then by metric, and loads them page by page.
// Empty buckets are omitted. It ends after the first error.
func (c *Client) QueryUsage(ctx context.Context, query UsageQuery) iter.Seq2[UsageSum, error] {
	return pages(func(token string) ([]*tenantauthv1.UsageSum, string, error) {
		if err := c.gate.enter(); err != nil {
			return nil, "", err
		}
		defer c.gate.leave()
		request := &tenantauthv1.QueryUsageRequest{
			TenantId:  query.TenantID,
			Metric:    query.Metric,
			StartTime: timestamp(query.Start),
			EndTime:   timestamp(query.End),
			Bucket:    tenantauthv1.UsageBucket(query.Bucket),
			PageToken: token,
		}
		reply, err := callWithRetries(ctx, c, rpc[*tenantauthv1.QueryUsageRequest, *tenantauthv1.QueryUsageResponse]{
			call: c.usage.QueryUsage, request: request, readOnly: true,
		})
		return reply.GetSums(), reply.GetNextPageToken(), err
	}, func(message *tenantauthv1.UsageSum) (UsageSum, error) {
		start, err := parseTime(message.GetBucketStart())
		return UsageSum{Metric: message.GetMetric(), BucketStart: start, Quantity: message.GetQuantity()}, err
	})
}

// timestamp returns nil for a zero time: callers use it for "not set", not for the year 1.
func timestamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
