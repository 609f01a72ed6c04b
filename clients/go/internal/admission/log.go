package admission

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// UndecidedLog logs requests that could not be decided: at most one message per second, with the number of suppressed
// ones.
type UndecidedLog struct {
	Logger *slog.Logger
	Now    func() time.Time

	mu         sync.Mutex
	last       time.Time
	suppressed int
}

// Log logs one request.
func (l *UndecidedLog) Log(ctx context.Context, err error) {
	l.mu.Lock()
	now := l.Now()
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		l.suppressed++
		l.mu.Unlock()
		return
	}
	suppressed := l.suppressed
	l.last, l.suppressed = now, 0
	l.mu.Unlock()
	attributes := []any{"error", err, "not_logged_before", suppressed}
	var serviceErr *tenantauth.Error
	if errors.As(err, &serviceErr) {
		attributes = append(attributes, "reason", serviceErr.Reason, "request_id", serviceErr.RequestID)
	}
	l.Logger.ErrorContext(ctx, "tenant-auth: request rejected because it could not be decided", attributes...)
}
