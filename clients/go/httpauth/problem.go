package httpauth

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/tenant-auth/tenant-auth/clients/go/internal/admission"
)

var statuses = map[admission.Class]int{
	admission.Ambiguous:       http.StatusBadRequest,
	admission.NoCredentials:   http.StatusUnauthorized,
	admission.Unauthenticated: http.StatusUnauthorized,
	admission.Forbidden:       http.StatusForbidden,
	admission.NotFound:        http.StatusNotFound,
	admission.Throttled:       http.StatusTooManyRequests,
	admission.Undecided:       http.StatusServiceUnavailable,
	admission.Outdated:        http.StatusServiceUnavailable,
}

// problem is the body of a rejection (RFC 9457).
type problem struct {
	Type          string   `json:"type"`
	Title         string   `json:"title"`
	Status        int      `json:"status"`
	Detail        string   `json:"detail"`
	Code          string   `json:"code"`
	MissingScopes []string `json:"missing_scopes,omitempty"`
}

// writeProblem responds with a problem document and the matching challenge (RFC 6750).
func writeProblem(w http.ResponseWriter, reply admission.Reply) {
	status := statuses[reply.Class]
	header := w.Header()
	if challenge := challenge(reply); challenge != "" {
		header.Set("WWW-Authenticate", challenge)
	}
	if reply.RetryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(admission.Seconds(reply.RetryAfter), 10))
	}
	// The response holds for this key and this moment only. Intermediaries must not cache it.
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// The error is ignored because the client may have disconnected.
	_ = json.NewEncoder(w).Encode(problem{
		Type:          "about:blank",
		Title:         http.StatusText(status),
		Status:        status,
		Detail:        reply.Detail,
		Code:          reply.Code,
		MissingScopes: reply.MissingScopes,
	})
}

func challenge(reply admission.Reply) string {
	switch {
	case reply.Class == admission.NoCredentials:
		return "Bearer"
	case reply.Class == admission.Unauthenticated:
		return `Bearer error="invalid_token"`
	case len(reply.MissingScopes) > 0:
		return fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, strings.Join(reply.MissingScopes, " "))
	default:
		return ""
	}
}
