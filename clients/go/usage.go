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

// UsageEvent is one thing that a tenant consumed.
type UsageEvent struct {
	// TenantID is who consumed it.
	TenantID string
	// Metric is what was consumed: a lower-case name such as api.calls.
	Metric string
	// Quantity is how much, in the metric's own unit; not negative.
	Quantity int64
	// At is when; zero is on arrival, or for a [Recorder] when it was recorded.
	At time.Time
}

// UsageBatch is a set of events under one request id. After a failure, resend the same events under the same id: they
// are counted once.
type UsageBatch struct {
	// RequestID is unique to this set of events; empty gets one, which only helps when the call is not repeated.
	RequestID string
	// Events are 1 to 500.
	Events []UsageEvent
}

// UsageReceipt is the outcome of a recording.
type UsageReceipt struct {
	// Accepted is how many events are counted now, by this call or an earlier one with the same id.
	Accepted int
	// Rejected are the events that can never be counted.
	Rejected []RejectedUsage
	// AlreadyRecorded tells whether an earlier call with the same id had recorded them.
	AlreadyRecorded bool
}

// RejectedUsage is an event that can never be counted.
type RejectedUsage struct {
	// Index is its position in the batch.
	Index int
	// Err is why.
	Err error
}

// RecordUsage records events. A nil error means that they are committed.
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
	reply, err := invoke(ctx, c, question[*tenantauthv1.RecordUsageRequest, *tenantauthv1.RecordUsageResponse]{
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

// Bucket is the width of the spans over which usage is summed, in UTC.
type Bucket int32

// The widths of buckets.
const (
	// Hour sums by hours.
	Hour = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_HOUR)
	// Day sums by days; the default.
	Day = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_DAY)
	// Month sums by calendar months.
	Month = Bucket(tenantauthv1.UsageBucket_USAGE_BUCKET_MONTH)
)

// UsageQuery is what to sum.
type UsageQuery struct {
	// TenantID is the tenant.
	TenantID string
	// Metric is one metric, or empty for all.
	Metric string
	// Start is the first moment, inclusive.
	Start time.Time
	// End is the last moment, exclusive.
	End time.Time
	// Bucket is the width of a bucket.
	Bucket Bucket
}

// UsageSum is one metric's sum over one bucket.
type UsageSum struct {
	// Metric is what was consumed.
	Metric string
	// BucketStart is where the bucket starts.
	BucketStart time.Time
	// Quantity is the sum.
	Quantity int64
}

// QueryUsage sums a tenant's usage, by time and then by metric, a page at a time. Empty buckets are left out. It ends
// after the first error.
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
		reply, err := invoke(ctx, c, question[*tenantauthv1.QueryUsageRequest, *tenantauthv1.QueryUsageResponse]{
			call: c.usage.QueryUsage, request: request, reads: true,
		})
		return reply.GetSums(), reply.GetNextPageToken(), err
	}, func(message *tenantauthv1.UsageSum) (UsageSum, error) {
		start, err := moment(message.GetBucketStart())
		return UsageSum{Metric: message.GetMetric(), BucketStart: start, Quantity: message.GetQuantity()}, err
	})
}

// timestamp leaves a zero time out: the year 1 is not what anybody means.
func timestamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
