package tenantauth

import (
	"fmt"
	"time"
)

// The contract's limits of usage events.
const (
	maxTenantIDLen = 64
	maxMetricLen   = 64
	maxQuantity    = 1_000_000_000_000
	minYear        = 1970
	maxYear        = 9999
)

// checkUsage rejects events that the service would reject anyway, so that they do not share a batch with valid events.
func checkUsage(event UsageEvent) error {
	switch {
	case !isTenantID(event.TenantID):
		return invalidField("tenant_id", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	case !isMetric(event.Metric):
		return invalidField("metric", "must be a lower-case letter and up to 63 characters of a-z 0-9 _ .")
	case event.Quantity < 0 || event.Quantity > maxQuantity:
		return invalidField("quantity", fmt.Sprintf("is %d; must be 0 to %d", event.Quantity, int64(maxQuantity)))
	case !event.At.IsZero() && !isRecordableTime(event.At):
		return invalidField("occurred_at", fmt.Sprintf("is in the year %d; must be %d to %d", event.At.UTC().Year(), minYear, maxYear))
	}
	return nil
}

func isTenantID(text string) bool {
	if text == "" || len(text) > maxTenantIDLen {
		return false
	}
	for _, char := range []byte(text) {
		switch {
		case 'a' <= char && char <= 'z', 'A' <= char && char <= 'Z', '0' <= char && char <= '9', char == '_', char == '-':
		default:
			return false
		}
	}
	return true
}

func isMetric(text string) bool {
	if text == "" || len(text) > maxMetricLen || text[0] < 'a' || text[0] > 'z' {
		return false
	}
	for _, char := range []byte(text) {
		switch {
		case 'a' <= char && char <= 'z', '0' <= char && char <= '9', char == '_', char == '.':
		default:
			return false
		}
	}
	return true
}

func isRecordableTime(at time.Time) bool {
	year := at.UTC().Year()
	return minYear <= year && year <= maxYear
}
