package admission

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	tenantauth "github.com/tenant-auth/tenant-auth/clients/go"
)

// UndecidedLog tells the operator of requests that could not be decided: in an outage one line a second, with a count.
type UndecidedLog struct {
	Logger *slog.Logger
	Now    func() time.Time

	mu     sync.Mutex
	last   time.Time
	unsaid int
}

// Note is to be called for each of them.
func (l *UndecidedLog) Note(ctx context.Context, err error) {
	l.mu.Lock()
	now := l.Now()
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		l.unsaid++
		l.mu.Unlock()
		return
	}
	unsaid := l.unsaid
	l.last, l.unsaid = now, 0
	l.mu.Unlock()
	attributes := []any{"error", err, "not_logged_before", unsaid}
	var made *tenantauth.Error
	if errors.As(err, &made) {
		attributes = append(attributes, "reason", made.Reason, "request_id", made.RequestID)
	}
	l.Logger.ErrorContext(ctx, "tenant-auth: a request could not be decided, and was refused", attributes...)
}
