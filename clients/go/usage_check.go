package tenantauth

import (
	"fmt"
	"time"
)

// The contract's bounds of usage events.
const (
	longestTenantID = 64
	longestMetric   = 64
	mostQuantity    = 1_000_000_000_000
	firstYear       = 1970
	lastYear        = 9999
)

// checkUsage refuses what the service could never count, so that it does not get into a batch with events that it can.
func checkUsage(event UsageEvent) error {
	switch {
	case !tenantID(event.TenantID):
		return invalid("tenant_id", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	case !metric(event.Metric):
		return invalid("metric", "must be a lower-case letter and up to 63 characters of a-z 0-9 _ .")
	case event.Quantity < 0 || event.Quantity > mostQuantity:
		return invalid("quantity", fmt.Sprintf("is %d; must be 0 to %d", event.Quantity, int64(mostQuantity)))
	case !event.At.IsZero() && !recordable(event.At):
		return invalid("occurred_at", fmt.Sprintf("is in the year %d; must be %d to %d", event.At.UTC().Year(), firstYear, lastYear))
	}
	return nil
}

func tenantID(text string) bool {
	if text == "" || len(text) > longestTenantID {
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

func metric(text string) bool {
	if text == "" || len(text) > longestMetric || text[0] < 'a' || text[0] > 'z' {
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

func recordable(at time.Time) bool {
	year := at.UTC().Year()
	return firstYear <= year && year <= lastYear
}
